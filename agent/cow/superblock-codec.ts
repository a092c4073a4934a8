import { crc32 } from 'node:zlib';

/** The first bytes of a buffer file: what it is, and where its index is. */
export interface Superblock {
  readonly chunkSizeBytes: number;
  /** Size of each of the two index regions. */
  readonly regionBytes: number;
  /** Grows with each rewriting of the index; frames of another generation are not part of it. */
  readonly generation: number;
  /** Which of the two regions holds the index. */
  readonly region: 0 | 1;
}

/** Bytes of one copy of the superblock; two copies stand at the start of the file, each in pages of its own. */
export const superblockBytes = 4096;

const magic = 'understudy cow\0\0';
const version = 1;
/** magic, then u32 version, chunk size, region, generation, f64 region size, and the CRC-32 of all that. */
const checksumOffset = 40;

export function encodeSuperblock(superblock: Superblock): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.alloc(superblockBytes);
  bytes.write(magic, 0, 'latin1');
  bytes.writeUInt32LE(version, 16);
  bytes.writeUInt32LE(superblock.chunkSizeBytes, 20);
  bytes.writeUInt32LE(superblock.region, 24);
  bytes.writeUInt32LE(superblock.generation, 28);
  bytes.writeDoubleLE(superblock.regionBytes, 32);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, checksumOffset)), checksumOffset);
  return bytes;
}

/**
 * @returns the superblock; "damaged" if its checksum does not match or it is none; or the number of a version that this
 * program does not know
 */
export function decodeSuperblock(block: Uint8Array): Superblock | 'damaged' | number {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  if (bytes.readUInt32LE(checksumOffset) !== crc32(bytes.subarray(0, checksumOffset))) return 'damaged';
  if (bytes.toString('latin1', 0, 16) !== magic) return 'damaged';
  if (bytes.readUInt32LE(16) !== version) return bytes.readUInt32LE(16);
  return {
    chunkSizeBytes: bytes.readUInt32LE(20),
    region: bytes.readUInt32LE(24) === 1 ? 1 : 0,
    generation: bytes.readUInt32LE(28),
    regionBytes: bytes.readDoubleLE(32),
  };
}
