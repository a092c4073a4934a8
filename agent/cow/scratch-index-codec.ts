import { crc32 } from 'node:zlib';
import { BlockSet } from './block-set.ts';

/**
 * The index of a scratch overlay: which blocks it holds.
 *
 *     0  magic "USSCR1\0\0"   8  f64 size of the device   16 u32 block size   20 u32 number of runs
 *     24 runs: u32 first block, u32 count; then the CRC-32 of all that. Little-endian.
 *
 * Pure: bytes in, blocks out.
 */
export interface ScratchIndex {
  readonly deviceBytes: number;
  readonly blockBytes: number;
  readonly blocks: BlockSet;
}

const magic = 'USSCR1\0\0';
const headerBytes = 24;

export function encodeScratchIndex(index: ScratchIndex): Uint8Array<ArrayBuffer> {
  const runs = index.blocks.runs();
  const bytes = Buffer.alloc(headerBytes + 8 * runs.length + 4);
  bytes.write(magic, 0, 'latin1');
  bytes.writeDoubleLE(index.deviceBytes, 8);
  bytes.writeUInt32LE(index.blockBytes, 16);
  bytes.writeUInt32LE(runs.length, 20);
  let offset = headerBytes;
  for (const { first, count } of runs) {
    bytes.writeUInt32LE(first, offset);
    bytes.writeUInt32LE(count, offset + 4);
    offset += 8;
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(0, offset)), offset);
  return bytes;
}

/** @returns undefined if the bytes are damaged or none of this format */
export function decodeScratchIndex(content: Uint8Array): ScratchIndex | undefined {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  if (bytes.length < headerBytes + 4 || bytes.toString('latin1', 0, 8) !== magic) return undefined;
  const runs = bytes.readUInt32LE(20);
  const end = headerBytes + 8 * runs;
  if (bytes.length !== end + 4 || crc32(bytes.subarray(0, end)) !== bytes.readUInt32LE(end)) return undefined;
  const blocks = new BlockSet();
  for (let offset = headerBytes; offset < end; offset += 8) {
    const first = bytes.readUInt32LE(offset);
    const count = bytes.readUInt32LE(offset + 4);
    for (let block = first; block < first + count; block += 1) blocks.add(block);
  }
  return { deviceBytes: bytes.readDoubleLE(8), blockBytes: bytes.readUInt32LE(16), blocks };
}
