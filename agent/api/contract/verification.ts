import { z } from 'zod';
import { nameSchema, sizeSchema } from './fields.ts';

/** POST /v1/volumes/{volume}/verify, at the primary: compares both copies of a mirror while the volume is in use. */
export const verificationRequestSchema = z.strictObject({
  /** Without it, every mirror of the volume. */
  mirror: nameSchema.optional(),
  /** At most so much is read and compared a second; without it, what limits the mirror's resyncs. */
  bytesPerSecond: sizeSchema.optional(),
  /** What differs is copied from the primary again, by a resync at the end. Without it nothing is changed. */
  repair: z.boolean().default(false),
});

export const verificationViewSchema = z.object({
  /** Stopped: ended before everything was compared, see reason. */
  state: z.enum(['Running', 'Done', 'Stopped']),
  /** RFC 3339. */
  startedAt: z.string(),
  endedAt: z.string().optional(),
  reason: z.string().optional(),
  totalBytes: z.number(),
  verifiedBytes: z.number(),
  differingBytes: z.number(),
  /** The first ranges that differ, in order, at most 64, in blocks of 4 KiB. */
  differing: z.array(z.object({ offset: z.number(), length: z.number() })),
  /** More differ than are listed. */
  truncated: z.boolean(),
  repair: z.boolean(),
  /** The limit in force. */
  bytesPerSecond: z.number().optional(),
});

export type VerificationRequest = z.output<typeof verificationRequestSchema>;
export type VerificationView = z.output<typeof verificationViewSchema>;
