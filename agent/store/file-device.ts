import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { RandomAccessFile } from '../core/storage.ts';
import { RangeOrder } from './range-order.ts';

export interface FileDeviceOptions {
  readonly file: RandomAccessFile;
  /** Logical block size in bytes. */
  readonly blockSize: 512 | 4096;
  /** thick: trimmed and zeroed ranges keep their space, so that a later write cannot run out of it (rule 14). */
  readonly provisioning: 'thick' | 'sparse';
  /** Bytes of the file that belong to the device, from its start; all of them if not given. */
  readonly sizeBytes?: number;
}

/** The bottom of every volume: a block device over one file or raw device. */
export class FileDevice implements BlockDevice {
  readonly blockSize: number;
  readonly #file: RandomAccessFile;
  readonly #thick: boolean;
  readonly #order = new RangeOrder();
  /** Syncs under way, each with the write before it if it is one for FUA. */
  readonly #syncs = new Set<Promise<void>>();
  #size: number;
  #closed = false;

  constructor({ file, blockSize, provisioning, sizeBytes = file.size }: FileDeviceOptions) {
    this.#file = file;
    this.blockSize = blockSize;
    this.#thick = provisioning === 'thick';
    const size = Math.min(sizeBytes, file.size);
    this.#size = size - (size % blockSize);
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, target: Uint8Array): Completion {
    return this.#run(offset, target.byteLength, true, () => this.#file.read(offset, target));
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    const completion = this.#run(offset, data.byteLength, false, () => this.#file.write(offset, data));
    return options?.fua ? this.#track(this.#thenSync(completion)) : completion;
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    const space = this.#thick || options?.keepAllocated ? 'keep' : 'release';
    const completion = this.#run(offset, length, false, () => this.#file.zero(offset, length, space));
    return options?.fua ? this.#track(this.#thenSync(completion)) : completion;
  }

  trim(offset: number, length: number): Completion {
    return this.writeZeroes(offset, length);
  }

  flush(): Completion {
    return this.#closed ? Promise.reject(this.#closedError()) : this.#track(this.#file.sync());
  }

  /** A thick volume has no holes: space that was never written reads as zeroes but is taken. */
  extents(offset: number, length: number): Extent[] {
    if (this.#closed) throw this.#closedError();
    const extents = this.#file.extents(offset, length);
    return this.#thick ? extents.map((extent) => ({ ...extent, hole: false })) : extents;
  }

  /**
   * Makes the device larger; durable when it resolves. The new space reads as zeroes.
   * @throws UnderstudyError Invalid if it would shrink or is not a multiple of the block size; NoSpace
   */
  async grow(size: number): Promise<void> {
    if (size < this.#size || size % this.blockSize !== 0) {
      throw new UnderstudyError(
        'Invalid',
        `cannot resize from ${this.#size} to ${size} bytes: expected a larger multiple of ${this.blockSize}`,
      );
    }
    if (size === this.#size) return;
    await this.#file.resize(size, this.#thick ? 'allocate' : 'sparse');
    await this.#file.sync();
    this.#size = size;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#order.drained();
    await Promise.allSettled(this.#syncs);
    try {
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }

  #run(offset: number, length: number, reads: boolean, operation: () => Completion): Completion {
    if (this.#closed) return Promise.reject(this.#closedError());
    return this.#order.run(offset, length, reads, operation);
  }

  #track(sync: Promise<void>): Promise<void> {
    const tracked = sync.finally(() => this.#syncs.delete(tracked));
    this.#syncs.add(tracked);
    return tracked;
  }

  async #thenSync(completion: Completion): Promise<void> {
    await completion;
    await this.#file.sync();
  }

  #closedError(): UnderstudyError {
    return new UnderstudyError('Closed', 'the device is closed');
  }
}
