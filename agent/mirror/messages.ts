import { UnderstudyError } from '../../common/errors.ts';
import * as z from '../../common/shapes.ts';
import { maxJsonBytes } from './protocol.ts';
import { restoreMarkerShape } from './restore-marker.ts';

/** Primary → standby, first frame: who I am and for what. */
export const helloSchema = z.object({
  protocol: z.number().int(),
  volume: z.string(),
  uid: z.string().optional(),
  mirror: z.string(),
  epoch: z.number().int().positive(),
  size: z.number().int().positive(),
  blockSize: z.number().int().positive(),
  /** Grows with each link of this primary; an older link is closed before a newer one is answered. */
  generation: z.number().int().positive(),
  /** Without it, synchronous. The standby must have said that it knows asynchronous mirrors. */
  mode: z.enum(['synchronous', 'asynchronous']).optional(),
});

/** A position in the stream of an asynchronous mirror. */
export const streamPositionSchema = z.object({ id: z.string(), position: z.number().int().min(0) });

/** Standby → primary: what this copy holds. */
export const welcomeSchema = z.object({
  protocol: z.number().int(),
  /** Nothing was ever written to this copy: it reads as zeroes. */
  blank: z.boolean(),
  consistent: z.boolean(),
  clean: z.boolean(),
  dataEpoch: z.number().int().min(0),
  /** The resync on which this copy's content is based; the primary's record of differences holds only for that one. */
  baseId: z.string().optional(),
  /** What this agent knows beyond the first release: asynchronous, cascade, zstd. */
  features: z.array(z.string()).optional(),
  /** The entry that was the last to be applied here, and nothing behind it was. Unknown after an unclean end. */
  stream: streamPositionSchema.optional(),
});

/** Standby → primary instead of a welcome. */
export const refuseSchema = z.object({
  /**
   * StaleEpoch fences the primary; the others are tried again. Prepared: this copy takes part in no older epoch any more,
   * but whether a newer one comes to be is still open.
   */
  reason: z.enum(['StaleEpoch', 'Prepared', 'OtherVolume', 'NotStandby', 'Unready', 'Version', 'Failed']),
  message: z.string(),
  epoch: z.number().int().min(0),
});

export const barrierSchema = z.object({
  snapshot: z.string(),
  attempt: z.string(),
  takenAt: z.string(),
  consistency: z.enum(['crash', 'filesystem']),
  /** What the one who ordered it calls the time in which he holds applications still. A standby that is older keeps it not. */
  hooks: z.string().optional(),
  /** Not here, but behind this copy's mirrors of these names, one behind the other. */
  via: z.array(z.string()).optional(),
});

/** What the barrier made; for a snapshot that was there already, what the earlier barrier made. */
export const barrierRecordSchema = z.object({
  takenAt: z.string(),
  consistency: z.enum(['crash', 'filesystem']),
  hooks: z.string().optional(),
  /** Of the barrier that made it. */
  attempt: z.string().optional(),
  size: z.number().int().positive(),
});

export const barrierDoneSchema = z.object({
  snapshot: z.string(),
  attempt: z.string(),
  record: barrierRecordSchema.optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});

/** From here on the copy is a resync target: it durably is neither clean nor promotable until it is told InSync. */
export const resyncBeginSchema = z.object({ baseId: z.string(), epoch: z.number().int().positive() });

export const inSyncSchema = z.object({
  baseId: z.string(),
  epoch: z.number().int().positive(),
  /** The restore of the volume that is under way, or the last one. */
  restore: restoreMarkerShape.optional(),
});

/** Entries of the stream follow, the first one at the position after this one. */
export const streamSchema = z.object({
  baseId: z.string(),
  epoch: z.number().int().positive(),
  stream: streamPositionSchema,
});

export const failedSchema = z.object({ message: z.string() });

export type Hello = z.output<typeof helloSchema>;
export type Welcome = z.output<typeof welcomeSchema>;
export type Refuse = z.output<typeof refuseSchema>;
export type Barrier = z.output<typeof barrierSchema>;
export type BarrierRecord = z.output<typeof barrierRecordSchema>;
export type BarrierDone = z.output<typeof barrierDoneSchema>;
export type ResyncBegin = z.output<typeof resyncBeginSchema>;
export type StreamPosition = z.output<typeof streamPositionSchema>;
export type StreamStart = z.output<typeof streamSchema>;
export type InSync = z.output<typeof inSyncSchema>;

export function encodeJson(message: object): Buffer {
  return Buffer.from(JSON.stringify(message));
}

/** @throws UnderstudyError Protocol when it is too long, no JSON, or not of the schema. */
export function decodeJson<T>(what: string, schema: z.Shape<T>, payload: Uint8Array): T {
  if (payload.length > maxJsonBytes) {
    throw new UnderstudyError('Protocol', `${what} of ${payload.length} bytes: expected at most ${maxJsonBytes}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('utf8'));
  } catch (cause) {
    throw new UnderstudyError('Protocol', `${what} is no JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new UnderstudyError('Protocol', `${what}: ${parsed.error.message}`);
  return parsed.data;
}
