import { z } from 'zod';
import { addressSchema, nameSchema } from './fields.ts';

/** Of PUT /v1/volumes/{volume}, when it creates a primary: its content is that of a snapshot which another volume has. */
export const fillOriginSchema = z.strictObject({
  /** The volume that the snapshot is of, and its uid if it has one. */
  volume: nameSchema,
  uid: z.string().min(1).max(64).optional(),
  snapshot: nameSchema,
  /** The mirror listener of the agent that keeps the snapshot; the only field that may change later. */
  address: addressSchema,
  /** That agent's node: with it, its certificate has to name it. */
  node: nameSchema.optional(),
});

/** PUT /v1/volumes/{volume}/snapshots/{snapshot}/holds/{hold}, at the copy that keeps the snapshot. Idempotent. */
export const holdRequestSchema = z.strictObject({
  /** The node that may read the snapshot; without it, any node of the cluster. */
  node: nameSchema.optional(),
});

export const fillingViewSchema = z.object({
  volume: z.string(),
  snapshot: z.string(),
  address: z.string(),
  /** Filling: what the volume does not have yet is read from the snapshot. */
  state: z.enum(['Filling', 'Filled']),
  totalBytes: z.number(),
  filledBytes: z.number(),
  /** Why it does not get on. While that is so, what is not filled cannot be read. */
  lastError: z.string().optional(),
  /** The snapshot is lost, to the knowledge of the agent that kept it. */
  lost: z.boolean().optional(),
});

export type FillOriginRequest = z.output<typeof fillOriginSchema>;
export type HoldRequest = z.output<typeof holdRequestSchema>;
export type FillingView = z.output<typeof fillingViewSchema>;
