import { z } from 'zod';
import { nameSchema } from './fields.ts';

/** PUT /v1/volumes/{volume}/restore, at the primary: puts the volume back to what a snapshot holds. Idempotent by name. */
export const restoreRequestSchema = z.strictObject({
  /** The same name is the same restore: one that is done is not done again. */
  name: nameSchema,
  snapshot: nameSchema,
  /** The mirror whose standby keeps the snapshot; without it, this copy. */
  mirror: nameSchema.optional(),
  /**
   * The snapshot, of the same copy, that keeps what was there before. It is taken if it is not there; if it is, nothing may
   * have been written since.
   */
  before: nameSchema.optional(),
  /** Restore beneath whoever has the volume open: what they have in memory does not fit to it any more. */
  allowInUse: z.boolean().default(false),
});

export const restoreViewSchema = z.object({
  name: z.string(),
  snapshot: z.string(),
  mirror: z.string().optional(),
  /** Running and Failed: the volume is half restored, and is not offered. GivenUp: it was left as it was then. */
  state: z.enum(['Running', 'Failed', 'Done', 'GivenUp']),
  /** RFC 3339. */
  startedAt: z.string(),
  endedAt: z.string().optional(),
  /** What has changed since the snapshot, and so has to be compared; how much of it has been, and was written. */
  totalBytes: z.number().optional(),
  checkedBytes: z.number().optional(),
  writtenBytes: z.number().optional(),
  /** Why it has failed, or what it waits for. */
  lastError: z.string().optional(),
});

export type RestoreRequest = z.output<typeof restoreRequestSchema>;
export type RestoreRequestInput = z.input<typeof restoreRequestSchema>;
export type RestoreView = z.output<typeof restoreViewSchema>;
