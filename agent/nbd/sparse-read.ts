import type { BlockDevice, Completion } from '../core/block-device.ts';
import { type Cookie, dataChunkOverhead, holeChunkBytes, viewOf, writeDataChunk, writeHoleChunk } from './codec.ts';
import { commandFlag } from './constants.ts';
import type { RequestHeader } from './request-parser.ts';

/** A stretch of a read that is sent as data, or only mentioned as zeroes. */
export interface ReadPart {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

/** Asking for extents costs about as much as reading a few blocks, so only reads from here on are worth it. */
const minSparseBytes = 64 * 1024;
/** Beyond so many parts one plain read is cheaper, for both sides. */
const maxParts = 16;
/** Extents are asked for in pieces of this size, so that a fragmented range is found out early. */
const queryBytes = 1024 * 1024;

/** The parts of a read that is better sent with its zeroes left out, or undefined if it is better sent as it is. */
export function planSparseRead(device: BlockDevice, request: RequestHeader): ReadPart[] | undefined {
  if (request.length < minSparseBytes || request.flags & commandFlag.dontFragment) return undefined;
  const parts: ReadPart[] = [];
  const end = request.offset + request.length;
  for (let offset = request.offset; offset < end; offset += queryBytes) {
    addParts(parts, device, offset, Math.min(queryBytes, end - offset));
    if (parts.length > maxParts) return undefined;
  }
  return parts.some((part) => part.zero) ? parts : undefined;
}

function addParts(parts: ReadPart[], device: BlockDevice, start: number, size: number): void {
  let offset = start;
  for (const { length, zero } of device.extents(start, size)) {
    const last = parts.at(-1);
    if (last?.zero === zero) parts[parts.length - 1] = { ...last, length: last.length + length };
    else parts.push({ offset, length, zero });
    offset += length;
  }
}

/** Reads the parts that hold data; when it completes, `bytes` is the whole structured reply. */
export function readSparsely(
  device: BlockDevice,
  cookie: Cookie,
  parts: readonly ReadPart[],
): { bytes: Uint8Array; completion: Completion } {
  const bytes = Buffer.allocUnsafeSlow(parts.reduce((sum, part) => sum + chunkBytes(part), 0));
  const view = viewOf(bytes);
  const pending: Promise<void>[] = [];
  let at = 0;
  parts.forEach((part, index) => {
    const { offset, length } = part;
    const done = index === parts.length - 1;
    if (part.zero) writeHoleChunk(view, at, cookie, { offset, holeBytes: length, done });
    else {
      writeDataChunk(view, at, cookie, { offset, dataBytes: length, done });
      const start = at + dataChunkOverhead;
      const completion = startRead(device, offset, bytes.subarray(start, start + length));
      if (completion) pending.push(completion);
    }
    at += chunkBytes(part);
  });
  return { bytes, completion: pending.length === 0 ? undefined : allDone(pending) };
}

function chunkBytes(part: ReadPart): number {
  return part.zero ? holeChunkBytes : dataChunkOverhead + part.length;
}

/** A read that fails at once fails like one that fails later: others may be under way, and use the same buffer. */
function startRead(device: BlockDevice, offset: number, target: Uint8Array): Completion {
  try {
    return device.read(offset, target);
  } catch (error) {
    return Promise.reject(error);
  }
}

/** Waits for every one of them, then fails with the first failure. */
async function allDone(pending: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(pending);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
