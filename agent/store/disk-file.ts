import fs from 'node:fs';
import { UnderstudyError } from '../../common/errors.ts';
import type { Completion, Extent } from '../core/block-device.ts';
import type { RandomAccessFile } from '../core/storage.ts';
import { diskError, errnoError } from './disk-error.ts';
import { seekExtents } from './disk-extents.ts';
import { SyncGroup } from './sync-group.ts';
import {
  errno,
  type FallocateMode,
  fallocate,
  fallocateLater,
  fallocateMode,
  readCached,
  seekEnd,
} from './syscalls.ts';

/**
 * A file or raw block device, through the page cache.
 *
 * Writes happen at once in the calling thread: on the page cache they are over sooner than a thread could be woken.
 * Reads take what the page cache holds (preadv2 with RWF_NOWAIT, measured to cost no more than a plain pread), and go to
 * the thread pool only when they would have to wait for the disk. Syncs, and zeroing of long ranges, run on other
 * threads. A failed sync fails the file for good: the kernel may have dropped the writes it could not store, so a second
 * sync that succeeds proves nothing.
 */
export class DiskFile implements RandomAccessFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #syncs: SyncGroup;
  readonly #background: boolean;
  #size: number;
  #closed = false;
  #failure: UnderstudyError | undefined;
  /** Some file systems know no RWF_NOWAIT; found out by the first read. */
  #cachedReads = true;
  #unsupported = new Set<FallocateMode>();
  #longZeroes: Promise<void> = Promise.resolve();

  /** Takes the descriptor over; use `DiskFile.open`. */
  constructor(path: string, fd: number, size: number, background = false) {
    this.#path = path;
    this.#fd = fd;
    this.#background = background;
    this.#size = size;
    this.#syncs = new SyncGroup(() => this.#syncOnce());
  }

  /**
   * Opens a file or raw block device that exists. `background`: writes happen on another thread.
   * @throws UnderstudyError NotFound, Io
   */
  static open(path: string, background = false): DiskFile {
    let fd: number | undefined;
    try {
      fd = fs.openSync(path, fs.constants.O_RDWR);
      const size = seekEnd(fd);
      if (size < 0) throw errnoError('find the size of', path, size);
      return new DiskFile(path, fd, size, background);
    } catch (error) {
      if (fd !== undefined) fs.closeSync(fd);
      throw diskError('open', path, error);
    }
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, target: Uint8Array): Completion {
    try {
      this.#checkRange('read', offset, target.byteLength);
      return this.#cachedReads ? this.#readCached(offset, target) : this.#readNow(offset, target);
    } catch (error) {
      return Promise.reject(diskError('read', this.#path, error));
    }
  }

  write(offset: number, data: Uint8Array): Completion {
    try {
      this.#checkRange('write', offset, data.byteLength);
      this.#checkHealthy();
      if (this.#background) return this.#writeLater(offset, data);
      let done = 0;
      while (done < data.byteLength) {
        done += fs.writeSync(this.#fd, data, done, pieceOf(data.byteLength - done), offset + done);
      }
      return undefined;
    } catch (error) {
      return Promise.reject(diskError('write', this.#path, error));
    }
  }

  zero(offset: number, length: number, space: 'keep' | 'release'): Completion {
    try {
      this.#checkRange('zero', offset, length);
      this.#checkHealthy();
      return this.#zero(offset, length, space);
    } catch (error) {
      return Promise.reject(diskError('zero a range of', this.#path, error));
    }
  }

  extents(offset: number, length: number): Extent[] {
    this.#checkRange('read', offset, length);
    return seekExtents(this.#fd, this.#path, offset, length);
  }

  async resize(size: number, space: 'allocate' | 'sparse'): Promise<void> {
    this.#checkOpen();
    this.#checkHealthy();
    const old = this.#size;
    try {
      fs.ftruncateSync(this.#fd, size);
      this.#size = size;
      if (space === 'allocate' && size > old) await this.#allocate(old, size - old);
    } catch (error) {
      throw diskError(`resize to ${size} bytes`, this.#path, error);
    }
  }

  sync(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (this.#failure) return Promise.reject(this.#failure);
    return this.#syncs.sync();
  }

  /** Syncs nothing by itself; waits for syncs under way. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#syncs.idle();
    await this.#longZeroes;
    await new Promise<void>((resolve, reject) => {
      fs.close(this.#fd, (error) => (error ? reject(diskError('close', this.#path, error)) : resolve()));
    });
  }

  #syncOnce(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => {
        if (!error) return resolve();
        this.#failure = new UnderstudyError(
          'Io',
          `a sync of ${this.#path} failed (${error.code ?? error.message}): writes may be lost, so it refuses every further write`,
          { labels: { path: this.#path }, cause: error },
        );
        reject(this.#failure);
      });
    });
  }

  #readCached(offset: number, target: Uint8Array): Completion {
    let done = 0;
    while (done < target.byteLength) {
      const part = done === 0 ? target : target.subarray(done);
      const count = readCached(this.#fd, part, offset + done);
      if (count > 0) {
        done += count;
      } else if (count === -errno.EAGAIN) {
        return this.#readLater(offset + done, part);
      } else if (count === -errno.EOPNOTSUPP || count === -errno.ENOSYS) {
        this.#cachedReads = false;
        return this.#readNow(offset + done, part);
      } else if (count !== -errno.EINTR) {
        throw count === 0 ? this.#shortRead(offset + done) : errnoError('read', this.#path, count);
      }
    }
    return undefined;
  }

  #readNow(offset: number, target: Uint8Array): Completion {
    let done = 0;
    while (done < target.byteLength) {
      const count = fs.readSync(this.#fd, target, done, target.byteLength - done, offset + done);
      if (count === 0) throw this.#shortRead(offset + done);
      done += count;
    }
    return undefined;
  }

  #readLater(offset: number, target: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (done: number) => {
        fs.read(this.#fd, target, done, target.byteLength - done, offset + done, (error, count) => {
          if (error) reject(diskError('read', this.#path, error));
          else if (count === 0) reject(this.#shortRead(offset + done));
          else if (done + count < target.byteLength) step(done + count);
          else resolve();
        });
      };
      step(0);
    });
  }

  #writeLater(offset: number, data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (done: number) => {
        fs.write(this.#fd, data, done, pieceOf(data.byteLength - done), offset + done, (error, count) => {
          if (error) reject(diskError('write', this.#path, error));
          else if (done + count < data.byteLength) step(done + count);
          else resolve();
        });
      };
      step(0);
    });
  }

  #zero(offset: number, length: number, space: 'keep' | 'release'): Completion {
    if (space === 'keep' && length <= shortZeroBytes) return this.write(offset, zeroes.subarray(0, length));
    const modes = space === 'keep' ? [fallocateMode.zeroRange] : [fallocateMode.punchHole, fallocateMode.zeroRange];
    const mode = modes.find((candidate) => !this.#unsupported.has(candidate));
    if (mode === undefined) return this.#writeZeroes(offset, length);
    const zeroed = (result: number): Completion => {
      if (result === 0) return undefined;
      if (result !== -errno.EOPNOTSUPP) throw errnoError('zero a range of', this.#path, result);
      this.#unsupported.add(mode);
      return this.#zero(offset, length, space);
    };
    if (length > longZeroBytes) {
      // One after the other: they contend for the same file, and the number of threads is limited.
      const zeroing = this.#longZeroes.then(() => fallocateLater(this.#fd, mode, offset, length)).then(zeroed);
      this.#longZeroes = zeroing.catch(() => {});
      return zeroing;
    }
    return zeroed(fallocate(this.#fd, mode, offset, length));
  }

  async #allocate(offset: number, length: number): Promise<void> {
    const result = await fallocateLater(this.#fd, fallocateMode.allocate, offset, length);
    if (result === -errno.EOPNOTSUPP) return this.#writeZeroes(offset, length);
    if (result !== 0) throw errnoError('allocate space for', this.#path, result);
  }

  /** For file systems without fallocate: long, so it lets other work in between. */
  async #writeZeroes(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += zeroes.byteLength) {
      const part = zeroes.subarray(0, Math.min(zeroes.byteLength, length - done));
      await new Promise<void>((resolve, reject) => {
        fs.write(this.#fd, part, 0, part.byteLength, offset + done, (error, count) => {
          if (error) reject(diskError('write zeroes to', this.#path, error));
          else if (count !== part.byteLength)
            reject(diskError('write zeroes to', this.#path, new Error('short write')));
          else resolve();
        });
      });
    }
  }

  #checkRange(action: string, offset: number, length: number): void {
    this.#checkOpen();
    if (offset >= 0 && length >= 0 && offset + length <= this.#size) return;
    throw new UnderstudyError(
      'Invalid',
      `cannot ${action} ${length} bytes at ${offset} of ${this.#path}: it has ${this.#size} bytes`,
    );
  }

  #checkOpen(): void {
    if (this.#closed) throw this.#closedError();
  }

  #checkHealthy(): void {
    if (this.#failure) throw this.#failure;
  }

  #closedError(): UnderstudyError {
    return new UnderstudyError('Closed', `${this.#path} is closed`);
  }

  #shortRead(offset: number): UnderstudyError {
    return new UnderstudyError('Io', `${this.#path} ended at ${offset}, before its size of ${this.#size} bytes`);
  }
}

/**
 * The most that one system call writes. Linux keeps what a call wrote in folios as large as it allows, and ext4 (of 6.16 and
 * later) walks through all blocks of a folio for each later write into it: 4 KiB into a file that had been written in calls
 * of 1 MiB were measured to take 27 µs, and 5 µs where the calls had been of 64 KiB, which are as fast themselves.
 */
const maxWriteBytes = 64 * 1024;

function pieceOf(bytes: number): number {
  return Math.min(bytes, maxWriteBytes);
}

/** Up to here writing zeroes is as fast as ZERO_RANGE, and keeps the extents of the file in one piece. */
const shortZeroBytes = 32 * 1024;
/** From here on zeroing may take the file system long enough to be given a thread. */
const longZeroBytes = 4 * 1024 * 1024;
const zeroes = new Uint8Array(1024 * 1024);
