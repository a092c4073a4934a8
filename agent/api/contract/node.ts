import { z } from 'zod';
import { addressSchema } from './fields.ts';

/** GET /v1/node: what this agent says of itself. */
export const nodeViewSchema = z.object({
  node: z.string(),
  /** host:port at which primaries on other nodes reach this agent for mirror links. */
  mirrorAddress: addressSchema,
});

export type NodeView = z.output<typeof nodeViewSchema>;
