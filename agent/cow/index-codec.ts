import { crc32 } from 'node:zlib';
import { errorMessage } from '../../common/errors.ts';
import { none } from './chunk-table.ts';
import type { SnapshotRecord } from './snapshot-info.ts';

/**
 * The records of the snapshot buffer's index, and the frames in which they are stored. All numbers are little-endian.
 *
 * A frame begins at a multiple of 4096 bytes, so that writing one never touches a sector that holds another:
 *
 *     0  u32 magic "USIX"    4  u32 generation    8  u32 sequence    12  u32 length of the payload
 *     16 u32 CRC-32 of the frame up to the end of the payload, taken with this field zero
 *     20 u32 reserved (0)    24 payload: records, one after the other; then zeroes up to the frame's end
 *
 * A record begins with its type in a u32:
 *
 *     1 preserve      u32 layer, u32 chunk, u32 slot, u32 CRC-32 of the slot
 *     2 preserveZero  u32 layer, u32 chunk              (the chunk was all zeroes and has no slot)
 *     3 forget        u32 layer, u32 chunk
 *     4 take          u32 snapshot, u32 repeated, f64 size of the volume, u32 length, JSON, zeroes up to 4 bytes
 *     5 ready         u32 snapshot
 *     6 remove        u32 snapshot
 *     7 invalidate    u32 snapshot, u32 length, UTF-8 reason, zeroes up to 4 bytes
 *     8 nextId        u32: no snapshot had this id or a higher one
 *
 * Pure: bytes in, records out.
 */
const magic = 0x5849_5355;
export const frameAlignment = 4096;
const frameHeader = 24;
/** No frame is larger; a length above it is damage, and is never used to allocate anything. */
export const maxFramePayload = 64 * 1024 * 1024;

const types = {
  preserve: 1,
  preserveZero: 2,
  forget: 3,
  take: 4,
  ready: 5,
  remove: 6,
  invalidate: 7,
  nextId: 8,
} as const;

/** What reads records. A slot is `none` (see ChunkTable) where the chunk was all zeroes. */
export interface IndexVisitor {
  preserve(layer: number, chunk: number, slot: number, checksum: number): void;
  forget(layer: number, chunk: number): void;
  /** `repeated`: a second copy, kept so that names outlive damage to the first. */
  take(id: number, record: SnapshotRecord, sizeBytes: number, repeated: boolean): void;
  ready(id: number): void;
  remove(id: number): void;
  invalidate(id: number, reason: string): void;
  nextId(id: number): void;
}

/** Collects records for the next frame. It is an IndexVisitor, so that what was read can be written again. */
export class FrameBuilder implements IndexVisitor {
  #bytes = Buffer.alloc(frameAlignment);
  #length = frameHeader;

  /** Bytes of the records so far. */
  get payloadBytes(): number {
    return this.#length - frameHeader;
  }

  preserve(layer: number, chunk: number, slot: number, checksum: number): void {
    if (slot === none) return this.#words(types.preserveZero, layer, chunk);
    this.#words(types.preserve, layer, chunk, slot, checksum);
  }

  forget(layer: number, chunk: number): void {
    this.#words(types.forget, layer, chunk);
  }

  take(id: number, record: SnapshotRecord, sizeBytes: number, repeated: boolean): void {
    this.#words(types.take, id, repeated ? 1 : 0);
    this.#room(8);
    this.#bytes.writeDoubleLE(sizeBytes, this.#length);
    this.#length += 8;
    this.#text(JSON.stringify(record));
  }

  ready(id: number): void {
    this.#words(types.ready, id);
  }

  remove(id: number): void {
    this.#words(types.remove, id);
  }

  invalidate(id: number, reason: string): void {
    this.#words(types.invalidate, id);
    this.#text(reason);
  }

  nextId(id: number): void {
    this.#words(types.nextId, id);
  }

  /** Adds records that are encoded already. */
  append(payload: Uint8Array): void {
    this.#room(payload.byteLength);
    this.#bytes.set(payload, this.#length);
    this.#length += payload.byteLength;
  }

  /** The frame with all records so far, and an empty builder behind it. */
  finish(generation: number, sequence: number): Uint8Array<ArrayBuffer> {
    const frame = this.#bytes.subarray(0, frameBytes(this.payloadBytes));
    frame.writeUInt32LE(magic, 0);
    frame.writeUInt32LE(generation, 4);
    frame.writeUInt32LE(sequence, 8);
    frame.writeUInt32LE(this.payloadBytes, 12);
    frame.writeUInt32LE(0, 16);
    frame.writeUInt32LE(crc32(frame.subarray(0, this.#length)), 16);
    this.#bytes = Buffer.alloc(frameAlignment);
    this.#length = frameHeader;
    return frame;
  }

  #words(...words: number[]): void {
    this.#room(4 * words.length);
    for (const word of words) {
      this.#bytes.writeUInt32LE(word, this.#length);
      this.#length += 4;
    }
  }

  #text(text: string): void {
    const bytes = Buffer.from(text, 'utf8');
    this.#words(bytes.length);
    this.#room(bytes.length + 3);
    bytes.copy(this.#bytes, this.#length);
    this.#length += padded(bytes.length, 4);
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = Buffer.alloc(padded(2 * (this.#length + bytes), frameAlignment));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** Bytes that a frame with such a payload takes. */
export function frameBytes(payloadBytes: number): number {
  return padded(frameHeader + payloadBytes, frameAlignment);
}

/** The records in a frame that `FrameBuilder.finish` made. */
export function payloadOf(frame: Uint8Array): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  return frame.subarray(frameHeader, frameHeader + view.getUint32(12, true));
}

/** A frame that was found whole. */
export interface Frame {
  readonly sequence: number;
  readonly payload: Uint8Array;
  readonly byteLength: number;
}

/**
 * What the start of some bytes says about the frame there: its whole length in bytes, or undefined if no frame of this
 * generation begins there.
 */
export function peekFrame(bytes: Uint8Array, generation: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < frameHeader) return undefined;
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) !== generation) return undefined;
  const payloadBytes = view.getUint32(12, true);
  return payloadBytes <= maxFramePayload ? frameBytes(payloadBytes) : undefined;
}

/** The frame that the bytes begin with, or undefined if it is not whole. */
export function decodeFrame(bytes: Uint8Array, generation: number): Frame | undefined {
  const byteLength = peekFrame(bytes, generation);
  if (byteLength === undefined || byteLength > bytes.byteLength) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = frameHeader + view.getUint32(12, true);
  const checksum = crc32(bytes.subarray(20, end), crc32(new Uint8Array(4), crc32(bytes.subarray(0, 16))));
  if (checksum !== view.getUint32(16, true)) return undefined;
  return { sequence: view.getUint32(8, true), payload: bytes.subarray(frameHeader, end), byteLength };
}

/**
 * Shows the records of a payload to a visitor.
 * @returns undefined, or what is wrong with a payload whose checksum is right: it was written by another version
 */
export function decodeRecords(payload: Uint8Array, visitor: IndexVisitor): string | undefined {
  const reader = new RecordReader(payload);
  try {
    while (!reader.atEnd) decodeRecord(reader, visitor);
    return undefined;
  } catch (error) {
    return errorMessage(error);
  }
}

function decodeRecord(reader: RecordReader, visitor: IndexVisitor): void {
  const type = reader.word();
  switch (type) {
    case types.preserve:
      return visitor.preserve(reader.word(), reader.word(), reader.word(), reader.word());
    case types.preserveZero:
      return visitor.preserve(reader.word(), reader.word(), none, 0);
    case types.forget:
      return visitor.forget(reader.word(), reader.word());
    case types.take: {
      const id = reader.word();
      const repeated = reader.word() === 1;
      const sizeBytes = reader.double();
      return visitor.take(id, snapshotRecordOf(reader.text()), sizeBytes, repeated);
    }
    case types.ready:
      return visitor.ready(reader.word());
    case types.remove:
      return visitor.remove(reader.word());
    case types.invalidate:
      return visitor.invalidate(reader.word(), reader.text());
    case types.nextId:
      return visitor.nextId(reader.word());
    default:
      throw new RangeError(`unknown type of record ${type}`);
  }
}

function snapshotRecordOf(json: string): SnapshotRecord {
  const value: unknown = JSON.parse(json);
  if (typeof value !== 'object' || value === null) throw new TypeError('a snapshot record is an object');
  const { name, takenAt, consistency, internal, attempt, hooks } = value as Record<string, unknown>;
  if (typeof name !== 'string' || typeof takenAt !== 'string') throw new TypeError('a snapshot has a name and a time');
  return {
    name,
    takenAt,
    consistency: consistency === 'filesystem' ? 'filesystem' : 'crash',
    internal: internal === true,
    ...(typeof attempt === 'string' ? { attempt } : {}),
    ...(typeof hooks === 'string' ? { hooks } : {}),
  };
}

/** Throws a RangeError when a record is longer than the payload. */
class RecordReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#offset >= this.#bytes.byteLength;
  }

  word(): number {
    this.#offset += 4;
    return this.#view.getUint32(this.#offset - 4, true);
  }

  double(): number {
    this.#offset += 8;
    return this.#view.getFloat64(this.#offset - 8, true);
  }

  text(): string {
    const length = this.word();
    const end = this.#offset + length;
    if (end > this.#bytes.byteLength) throw new RangeError('a text is longer than its frame');
    const text = Buffer.from(this.#bytes.subarray(this.#offset, end)).toString('utf8');
    this.#offset += padded(length, 4);
    return text;
  }
}

function padded(length: number, alignment: number): number {
  return Math.ceil(length / alignment) * alignment;
}
