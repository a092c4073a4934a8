import type { BlockDevice, Extent, WriteZeroesOptions } from '../../agent/core/block-device.ts';
import { checkRange } from '../../agent/core/range.ts';
import { UnderstudyError } from '../../common/errors.ts';

/** The dumbest device there is: a byte array, and one flag per block that says whether it takes up space. */
export class MemoryDevice implements BlockDevice {
  readonly size: number;
  readonly blockSize: number;
  readonly bytes: Uint8Array;
  readonly #allocated: Uint8Array;
  #closed = false;

  constructor(size: number, blockSize: 512 | 4096 = 512) {
    this.size = size;
    this.blockSize = blockSize;
    this.bytes = new Uint8Array(size);
    this.#allocated = new Uint8Array(size / blockSize);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  read(offset: number, target: Uint8Array): undefined {
    this.#check(offset, target.length);
    target.set(this.bytes.subarray(offset, offset + target.length));
  }

  write(offset: number, data: Uint8Array): undefined {
    this.#check(offset, data.length);
    this.bytes.set(data, offset);
    this.#mark(offset, data.length, 1);
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): undefined {
    this.#check(offset, length);
    this.bytes.fill(0, offset, offset + length);
    this.#mark(offset, length, options.keepAllocated ? 1 : 0);
  }

  trim(offset: number, length: number): undefined {
    this.writeZeroes(offset, length);
  }

  flush(): undefined {
    this.#checkOpen();
  }

  extents(offset: number, length: number): Extent[] {
    this.#check(offset, length);
    const extents: Extent[] = [];
    for (let at = offset; at < offset + length; at += this.blockSize) {
      const hole = this.#allocated[at / this.blockSize] === 0;
      const last = extents.at(-1);
      if (last?.hole === hole) extents[extents.length - 1] = { ...last, length: last.length + this.blockSize };
      else extents.push({ length: this.blockSize, hole, zero: hole });
    }
    return extents;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #mark(offset: number, length: number, allocated: 0 | 1): void {
    this.#allocated.fill(allocated, offset / this.blockSize, (offset + length) / this.blockSize);
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    checkRange(this, offset, length);
  }

  #checkOpen(): void {
    if (this.#closed) throw new UnderstudyError('Closed', 'the device is closed');
  }
}
