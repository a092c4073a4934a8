/**
 * How the stream of an asynchronous mirror is kept on disk. Two files, all numbers little-endian.
 *
 * The *journal* is a ring of records without a header; a record may go on at the ring's beginning. A record is 48 bytes
 * and a payload:
 *
 *   offset  0  u32  magic "UDJE"
 *           4  u32  CRC-32 of everything behind it, payload included
 *           8  u64  position in the stream: one more than that of the record before
 *          16  u64  when it was written, wall time in ms since 1970
 *          24  u64  offset in the volume, bytes
 *          32  u32  length of the range, bytes
 *          36  u32  length of the payload, bytes
 *          40  u8   type of the entry
 *          41  u8   flags
 *          42  …    zero
 *
 * The *seal* is a document that an orderly stop leaves behind: magic "UDJQ", format version (u32), length of the JSON
 * (u32), CRC-32 of all that follows (u32), the JSON (see SealHeader), and records: the part of the stream that was in
 * memory, which comes before what the journal holds.
 *
 * What the seal says is true of the journal only as long as the seal is there: it is removed, durably, before anything is
 * written to the journal again. Without it, or where one checksum does not match, nothing of either is used, and the
 * standby is resynchronised.
 */
import { crc32 } from 'node:zlib';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import * as z from '../../common/shapes.ts';
import { maxPayloadBytes } from './protocol.ts';
import { isEntryType, type StreamEntry } from './stream-entry.ts';

export const recordHeaderBytes = 48;
const recordMagic = 0x454a4455;
const sealMagic = 0x514a4455;
const sealVersion = 1;
const sealHeadBytes = 16;

/** An entry with its place in the stream. */
export interface StreamRecord {
  readonly position: number;
  /** Wall time in ms at which it was appended. */
  readonly wallTimeMs: number;
  readonly entry: StreamEntry;
}

const sealHeaderSchema = z.object({
  /** Identity of the stream. */
  stream: z.string(),
  /** The position that the standby has confirmed; the first record is behind it. */
  confirmed: z.number().int().min(0),
  /** The position of the last entry. */
  end: z.number().int().min(0),
  /** The position of the last announcement of disorder or order; 0 if there was none. */
  announced: z.number().int().min(0),
  /** The part that is in the journal, as offsets that count on at each round of the ring; undefined: none is. */
  ring: z
    .object({ from: z.number().int().min(0), to: z.number().int().min(0), dataBytes: z.number().int().positive() })
    .optional(),
});

export type SealHeader = z.output<typeof sealHeaderSchema>;

export interface Seal extends SealHeader {
  readonly records: readonly StreamRecord[];
}

export function recordBytes({ payload }: StreamEntry): number {
  return recordHeaderBytes + payload.length;
}

/** The header of a record; the payload follows it. */
export function encodeRecordHeader({ position, wallTimeMs, entry }: StreamRecord): Buffer {
  const header = Buffer.alloc(recordHeaderBytes);
  header.writeUInt32LE(recordMagic, 0);
  header.writeBigUInt64LE(BigInt(position), 8);
  header.writeBigUInt64LE(BigInt(Math.max(0, Math.floor(wallTimeMs))), 16);
  header.writeBigUInt64LE(BigInt(entry.offset), 24);
  header.writeUInt32LE(entry.length, 32);
  header.writeUInt32LE(entry.payload.length, 36);
  header.writeUInt8(entry.type, 40);
  header.writeUInt8(entry.flags, 41);
  header.writeUInt32LE(crc32(entry.payload, crc32(header.subarray(8))), 4);
  return header;
}

/**
 * The records that `bytes` holds completely, from its beginning on.
 * @returns with `neededBytes`: how many bytes are needed for the next one
 * @throws UnderstudyError Corrupt at the first one that is not what was written, or is out of order
 */
export function decodeRecords(
  bytes: Buffer,
  firstPosition: number,
): { records: StreamRecord[]; usedBytes: number; neededBytes: number } {
  const records: StreamRecord[] = [];
  let at = 0;
  for (;;) {
    if (bytes.length - at < recordHeaderBytes) return { records, usedBytes: at, neededBytes: recordHeaderBytes };
    const position = firstPosition + records.length;
    const payloadBytes = payloadBytesAt(bytes, at, position);
    const neededBytes = recordHeaderBytes + payloadBytes;
    if (bytes.length - at < neededBytes) return { records, usedBytes: at, neededBytes };
    records.push(decodeRecord(bytes.subarray(at, at + neededBytes), position));
    at += neededBytes;
  }
}

function payloadBytesAt(bytes: Buffer, at: number, position: number): number {
  const payloadBytes = bytes.readUInt32LE(at + 36);
  if (bytes.readUInt32LE(at) === recordMagic && payloadBytes <= maxPayloadBytes) return payloadBytes;
  throw damaged(position, 'its header is not one');
}

function decodeRecord(bytes: Buffer, position: number): StreamRecord {
  if (crc32(bytes.subarray(8)) !== bytes.readUInt32LE(4)) throw damaged(position, 'the checksum does not match');
  const found = Number(bytes.readBigUInt64LE(8));
  if (found !== position) throw damaged(position, `found position ${found}`);
  const type = bytes.readUInt8(40);
  if (!isEntryType(type)) throw damaged(position, `unknown type ${type}`);
  const entry: StreamEntry = {
    type,
    flags: bytes.readUInt8(41),
    offset: Number(bytes.readBigUInt64LE(24)),
    length: bytes.readUInt32LE(32),
    payload: bytes.subarray(recordHeaderBytes),
  };
  return { position, wallTimeMs: Number(bytes.readBigUInt64LE(16)), entry };
}

function damaged(position: number, why: string): UnderstudyError {
  return new UnderstudyError('Corrupt', `record ${position} of the journal is damaged: ${why}`);
}

export function encodeSeal({ records, ...header }: Seal): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const pieces: Uint8Array[] = [json];
  for (const record of records) pieces.push(encodeRecordHeader(record), record.entry.payload);
  const body = Buffer.concat(pieces);
  const head = Buffer.alloc(sealHeadBytes);
  head.writeUInt32LE(sealMagic, 0);
  head.writeUInt32LE(sealVersion, 4);
  head.writeUInt32LE(json.length, 8);
  head.writeUInt32LE(crc32(body), 12);
  return Buffer.concat([head, body]);
}

/** @throws UnderstudyError Corrupt when it is not, from its first to its last byte, what was written */
export function decodeSeal(content: Uint8Array): Seal {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  const corrupt = (why: string) => new UnderstudyError('Corrupt', `the seal of a journal is damaged: ${why}`);
  if (bytes.length < sealHeadBytes || bytes.readUInt32LE(0) !== sealMagic) throw corrupt('it is none');
  const version = bytes.readUInt32LE(4);
  if (version !== sealVersion) throw corrupt(`format ${version}, this release knows ${sealVersion}`);
  const body = bytes.subarray(sealHeadBytes);
  const jsonBytes = bytes.readUInt32LE(8);
  if (crc32(body) !== bytes.readUInt32LE(12) || jsonBytes > body.length) throw corrupt('the checksum does not match');
  let header: SealHeader;
  try {
    header = sealHeaderSchema.parse(JSON.parse(body.subarray(0, jsonBytes).toString('utf8')));
  } catch (cause) {
    throw corrupt(errorMessage(cause));
  }
  const rest = body.subarray(jsonBytes);
  const { records, usedBytes } = decodeRecords(rest, header.confirmed + 1);
  if (usedBytes !== rest.length) throw corrupt('its last record is cut off');
  return { ...header, records };
}
