import { superblockBytes } from './superblock-codec.ts';

/**
 * Where things stand in a buffer file `<volume>.cow`:
 *
 *     0                 superblock, first copy
 *     4096              superblock, second copy
 *     64 KiB            index region 0
 *     + regionBytes     index region 1
 *     + regionBytes     slots of one chunk each
 *
 * The file is sparse: of the index regions only what is in use takes space.
 */
export class BufferLayout {
  readonly chunkSizeBytes: number;
  readonly regionBytes: number;

  constructor(chunkSizeBytes: number, regionBytes: number) {
    this.chunkSizeBytes = chunkSizeBytes;
    this.regionBytes = regionBytes;
  }

  superblock(copy: 0 | 1): number {
    return copy * superblockBytes;
  }

  region(region: 0 | 1): number {
    return regionsOffset + region * this.regionBytes;
  }

  slot(slot: number): number {
    return regionsOffset + 2 * this.regionBytes + slot * this.chunkSizeBytes;
  }

  /** Size of a file with so many slots. */
  fileBytes(slots: number): number {
    return this.slot(slots);
  }
}

const regionsOffset = 64 * 1024;

/** Room for 8 million preserved chunks, rewritten index and tail together. */
export const defaultRegionBytes = 512 * 1024 * 1024;
/** More preserved chunks than this are not kept: the oldest snapshots make room. 20 bytes each in the index. */
export const maxEntries = 8 * 1024 * 1024;
