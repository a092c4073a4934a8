import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { WriteActivity } from './write-activity.ts';

/** The top of a primary's stack: notes every write in a running picture of the write rate, and passes everything on. */
export class MeteredDevice implements BlockDevice {
  readonly #base: BlockDevice;
  readonly #activity: WriteActivity;

  constructor(base: BlockDevice, activity: WriteActivity) {
    this.#base = base;
    this.#activity = activity;
  }

  get size(): number {
    return this.#base.size;
  }

  get blockSize(): number {
    return this.#base.blockSize;
  }

  read(offset: number, target: Uint8Array): Completion {
    return this.#base.read(offset, target);
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    this.#activity.written(data.length);
    return this.#base.write(offset, data, options);
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    this.#activity.written(length);
    return this.#base.writeZeroes(offset, length, options);
  }

  trim(offset: number, length: number): Completion {
    this.#activity.written(length);
    return this.#base.trim(offset, length);
  }

  flush(): Completion {
    return this.#base.flush();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#base.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#base.close();
  }
}
