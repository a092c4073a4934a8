import { z } from 'zod';
import { mirrorPathSchema, nameSchema } from './fields.ts';

/** Waiting for a quiet stretch in the write stream before the barrier. */
export const lullSchema = z.strictObject({
  /** The stretch must be at least this long. */
  quietForMs: z.number().int().min(1).max(60_000).default(200),
  /** It counts as quiet when no more than this many bytes a second are written. */
  thresholdBytesPerSecond: z.number().int().min(0).default(0),
  timeoutMs: z.number().int().min(1).max(3_600_000).default(30_000),
  onTimeout: z.enum(['take', 'fail']).default('take'),
});

/** PUT /v1/volumes/{volume}/snapshots/{snapshot}, at the primary. Idempotent by name. */
export const snapshotRequestSchema = z
  .strictObject({
    /**
     * Take it on this mirror's standby; without it, on this copy. `first/second` is the mirror `second` of the copy behind
     * the mirror `first` (a cascade): the barrier travels on in the stream of writes.
     */
    mirror: mirrorPathSchema.optional(),
    lull: lullSchema.optional(),
    /** Freeze the mounted filesystem around the barrier, for at most this long. */
    freeze: z.strictObject({ timeoutMs: z.number().int().min(1).max(60_000).default(5_000) }).optional(),
    /**
     * The caller holds applications still, and calls that by this name. It is kept with the snapshot, so that whoever asks
     * again learns which of his attempts made it.
     */
    hooks: z.string().min(1).max(63).optional(),
    /**
     * The attempt of a snapshot group for which acknowledgements are held here (PUT …/groups/{attempt}); without that it is
     * refused. It is answered when the barrier is sent, with 202 if the snapshot is not Ready by then.
     */
    group: nameSchema.optional(),
  })
  .refine(({ group, lull, freeze }) => group === undefined || (lull ?? freeze) === undefined, {
    message: 'of a group neither a lull is waited for nor a filesystem frozen: applications wait already',
    path: ['group'],
  });

export type SnapshotRequestInput = z.input<typeof snapshotRequestSchema>;
export type SnapshotRequest = z.output<typeof snapshotRequestSchema>;
