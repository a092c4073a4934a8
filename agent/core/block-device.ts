/**
 * The one interface of every layer of a volume.
 *
 * A layer is a block device over another block device; what a volume can do is decided by which layers are stacked:
 * FileDevice, CowDevice over it, MirrorDevice over that, an NBD export on top.
 *
 * What holds for every implementation:
 * - Operations take effect in the order in which they are called wherever their ranges overlap, even while earlier
 *   ones are still under way.
 * - A completion of `undefined` means "done already"; a promise means "later". Most operations on a page cache are done
 *   at once, and a promise for each would cost more than the operation itself.
 * - `data` and `target` belong to the callee until completion; the callee does not modify `data`, and nobody reads
 *   `target` before.
 * - Offsets and lengths are in bytes, lie within the device and are multiples of `blockSize`, and lengths are above
 *   zero: callers check this once, where requests come in (see checkRange).
 * - A failure is always a rejected promise, never a throw (except in `extents`, which answers at once).
 * - After a failed operation the content of its range is undefined (old, new or a mixture per block) but no other
 *   range is touched.
 */
export interface BlockDevice {
  /** Bytes; a multiple of blockSize. */
  readonly size: number;
  /** Logical block size in bytes, 512 or 4096: the unit of addressing, and of atomicity in a mixture. */
  readonly blockSize: number;
  read(offset: number, target: Uint8Array): Completion;
  /** With `fua` ("force unit access") it completes only when this write itself is on stable storage on every copy. */
  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion;
  /** The range reads as zeroes afterwards. */
  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion;
  /** Zeroes the range and gives its space back if the volume is sparse. A trimmed range reads as zeroes on every copy. */
  trim(offset: number, length: number): Completion;
  /** When it completes, every operation that completed before the call is on stable storage on every copy. */
  flush(): Completion;
  /** The allocation of a range as a list of extents that cover it exactly, in order. */
  extents(offset: number, length: number): Extent[];
  /** Waits for what is under way, syncs, and releases everything. Operations after it fail with Closed. */
  close(): Promise<void>;
}

export type Completion = Promise<void> | undefined;

export interface WriteOptions {
  readonly fua?: boolean;
}

export interface WriteZeroesOptions extends WriteOptions {
  /** Keep the space allocated, so that later writes cannot run out of space. */
  readonly keepAllocated?: boolean;
}

/** A stretch of a device. `zero` ranges certainly read as zeroes; `hole` ranges occupy no space. */
export interface Extent {
  readonly length: number;
  readonly zero: boolean;
  readonly hole: boolean;
}
