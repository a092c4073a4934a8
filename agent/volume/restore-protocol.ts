/**
 * How the primary reads a snapshot of a standby for a restore: on a connection of its own to the standby's mirror listener
 * (see mirror-preamble.ts), secured as a mirror link is, one request and one answer at a time.
 *
 *   frame     the length of the payload (u32, big-endian), its kind (u8: 0 = JSON, 1 = data), the payload
 *   primary   a JSON request: hello first, then look, changed, read, mark
 *   another   of a volume that is filled from the snapshot (preamble "UDFILL01"): fill first, then data, read
 *   standby   a JSON answer with what was asked for, or `error`; to `read`, data
 */
import { UnderstudyError } from '../../common/errors.ts';
import * as z from '../../common/shapes.ts';
import { restoreMarkerShape } from '../mirror/restore-marker.ts';

export const restoreProtocolVersion = 1;
/** The largest piece that is read at once. */
export const maxReadBytes = 1024 * 1024;
const maxPayloadBytes = 1024 * 1024;
const headerBytes = 5;

const rangeShape = z.object({ offset: z.number().int().min(0), length: z.number().int().positive() });

export const requestShape = z.union([
  z.object({
    type: z.literal('hello'),
    protocol: z.number().int(),
    uid: z.string().optional(),
    epoch: z.number().int().positive(),
  }),
  z.object({
    type: z.literal('fill'),
    protocol: z.number().int(),
    /** Of the volume that the snapshot is of. */
    uid: z.string().optional(),
    snapshot: z.string(),
    /** The name of the hold that keeps the snapshot for this. */
    hold: z.string(),
  }),
  z.object({ type: z.literal('data'), snapshot: z.string(), range: rangeShape }),
  z.object({ type: z.literal('look'), snapshot: z.string(), before: z.string().optional() }),
  z.object({ type: z.literal('changed'), snapshot: z.string(), range: rangeShape }),
  z.object({ type: z.literal('read'), snapshot: z.string(), range: rangeShape }),
  z.object({ type: z.literal('mark'), marker: restoreMarkerShape }),
]);

const errorShape = z.object({ type: z.literal('error'), code: z.string(), message: z.string() });

export const answerShape = z.union([
  errorShape,
  z.object({ type: z.literal('done') }),
  z.object({ type: z.literal('held'), sizeBytes: z.number().int().positive() }),
  z.object({
    type: z.literal('outlook'),
    sizeBytes: z.number().int().positive(),
    changedBytes: z.number().int().min(0),
    neededBytes: z.number().int().min(0),
    freeBytes: z.number(),
    changedSinceBefore: z.number().int().min(0).optional(),
  }),
  z.object({ type: z.literal('ranges'), ranges: z.array(rangeShape) }),
]);

export type RestoreRequestMessage = z.output<typeof requestShape>;
export type RestoreAnswer = z.output<typeof answerShape>;

/** A JSON payload, or data. */
export type RestoreFrame =
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'data'; readonly data: Uint8Array };

export function encodeMessage(message: RestoreRequestMessage | RestoreAnswer): Uint8Array[] {
  return encodeFrame(0, Buffer.from(JSON.stringify(message)));
}

export function encodeData(data: Uint8Array): Uint8Array[] {
  return encodeFrame(1, data);
}

function encodeFrame(kind: 0 | 1, payload: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32BE(payload.length);
  header.writeUInt8(kind, 4);
  return [header, payload];
}

/** Cuts a byte stream into frames. Lengths are checked before anything is allocated. */
export class RestoreFrames {
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** @throws UnderstudyError Protocol */
  push(bytes: Uint8Array): RestoreFrame[] {
    this.#pieces.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    this.#bytes += bytes.byteLength;
    const frames: RestoreFrame[] = [];
    for (let frame = this.#next(); frame !== undefined; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): RestoreFrame | undefined {
    if (this.#bytes < headerBytes) return undefined;
    const header = this.#joined();
    const length = header.readUInt32BE(0);
    const kind = header.readUInt8(4);
    if (kind > 1 || length > maxPayloadBytes)
      throw new UnderstudyError(
        'Protocol',
        `a frame of kind ${kind} with ${length} bytes on a connection for a restore`,
      );
    if (this.#bytes < headerBytes + length) return undefined;
    const payload = header.subarray(headerBytes, headerBytes + length);
    this.#pieces = [header.subarray(headerBytes + length)];
    this.#bytes -= headerBytes + length;
    return kind === 1 ? { kind: 'data', data: payload } : { kind: 'json', value: parse(payload) };
  }

  /** Once the header is known, pieces are joined when all of them are there, or rarely before. */
  #joined(): Buffer {
    const [first] = this.#pieces;
    if (first === undefined) return Buffer.alloc(0);
    const needed = first.length < headerBytes ? headerBytes : headerBytes + first.readUInt32BE(0);
    if (this.#pieces.length === 1 || (first.length >= headerBytes && this.#bytes < needed)) return first;
    const joined = Buffer.concat(this.#pieces);
    this.#pieces = [joined];
    return joined;
  }
}

function parse(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'));
  } catch (cause) {
    throw new UnderstudyError('Protocol', 'no JSON on a connection for a restore', { cause });
  }
}

/** @throws UnderstudyError Protocol */
export function checked<T>(shape: z.Shape<T>, value: unknown): T {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UnderstudyError('Protocol', `on a connection for a restore: ${parsed.error.message}`);
}
