import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';

/**
 * Passes everything on at once, and can hold the acknowledgements of what changes the device: operations take effect as
 * always, only their success is not told before the hold ends.
 *
 * Invariants
 * - No write, trim or flush that is called during a hold is acknowledged before its end.
 * - A failure is no acknowledgement: it is passed on at once, and a hold makes nothing fail.
 * - Reads are not held; docs/decisions/snapshot-groups.md says why.
 */
export class HoldableDevice implements BlockDevice {
  readonly #base: BlockDevice;
  /** Resolves at the end of the hold; undefined without one. */
  #released: Promise<void> | undefined;

  constructor(base: BlockDevice) {
    this.#base = base;
  }

  get size(): number {
    return this.#base.size;
  }

  get blockSize(): number {
    return this.#base.blockSize;
  }

  /** Of one hold at a time. @returns what ends it */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#released = promise;
    return () => {
      if (this.#released === promise) this.#released = undefined;
      resolve();
    };
  }

  read(offset: number, target: Uint8Array): Completion {
    return this.#base.read(offset, target);
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    return this.#acknowledged(this.#base.write(offset, data, options));
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    return this.#acknowledged(this.#base.writeZeroes(offset, length, options));
  }

  trim(offset: number, length: number): Completion {
    return this.#acknowledged(this.#base.trim(offset, length));
  }

  flush(): Completion {
    return this.#acknowledged(this.#base.flush());
  }

  extents(offset: number, length: number): Extent[] {
    return this.#base.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#base.close();
  }

  #acknowledged(completion: Completion): Completion {
    const released = this.#released;
    if (released === undefined) return completion;
    return completion === undefined ? released : Promise.all([completion, released]).then(() => undefined);
  }
}
