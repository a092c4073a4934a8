import { createHash } from 'node:crypto';
import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';
import { RangeOrder } from '../store/range-order.ts';
import { SyncGroup } from '../store/sync-group.ts';
import { BlockSet } from './block-set.ts';
import { decodeScratchIndex, encodeScratchIndex } from './scratch-index-codec.ts';

export interface ScratchDeviceOptions {
  /** What it lies over; never written to, and its content must not change. Closed with it. */
  readonly base: BlockDevice;
  readonly directory: StorageDirectory;
  readonly name: string;
}

/**
 * A writable view of a read-only device, in which a filesystem's journal can be replayed.
 *
 * Holds: `<name>.scratch`, a sparse file with each overwritten block at its own place, and `<name>.scratch-index`, the
 * set of these blocks (scratch-index-codec), replaced as a whole.
 *
 * Invariants: a block counts only when it is in the index, and gets into the index only when it is on stable storage. A
 * write to a block that is new here completes when both are done; so nothing that was completed is lost when the process
 * ends, and nothing that was flushed when the machine does.
 */
export class ScratchDevice implements BlockDevice {
  readonly size: number;
  readonly blockSize: number;
  readonly #base: BlockDevice;
  readonly #file: RandomAccessFile;
  readonly #directory: StorageDirectory;
  readonly #name: string;
  readonly #order = new RangeOrder();
  readonly #saves = new SyncGroup(() => this.#saveOnce());
  /** Blocks that are read from the file. */
  readonly #blocks: BlockSet;
  #unsaved = false;
  #closed = false;

  private constructor(
    { base, directory }: ScratchDeviceOptions,
    name: string,
    file: RandomAccessFile,
    blocks: BlockSet,
  ) {
    this.size = base.size;
    this.blockSize = base.blockSize;
    this.#base = base;
    this.#directory = directory;
    this.#name = name;
    this.#file = file;
    this.#blocks = blocks;
  }

  /**
   * Opens an overlay with what has been written to it, or makes an empty one.
   * @throws UnderstudyError Corrupt (its index is damaged), Conflict (it belongs to a device of another size), Io, NoSpace
   */
  static async open(options: ScratchDeviceOptions): Promise<ScratchDevice> {
    const { base, directory } = options;
    const name = fileName(options.name);
    const content = await directory.readFile(`${name}.scratch-index`);
    const index = content && decodeScratchIndex(content);
    if (content && !index) {
      throw new UnderstudyError(
        'Corrupt',
        `the index of scratch overlay ${name} is damaged: destroy it and make it anew`,
      );
    }
    if (index && (index.deviceBytes !== base.size || index.blockBytes !== overlayBlockBytes)) {
      throw new UnderstudyError(
        'Conflict',
        `scratch overlay ${name} belongs to a device of ${index.deviceBytes} bytes`,
      );
    }
    const file = await directory.open(`${name}.scratch`, { create: { size: base.size, space: 'sparse' } });
    return new ScratchDevice(options, name, file, index?.blocks ?? new BlockSet());
  }

  /** Removes an overlay; one that is not there is no error. @throws UnderstudyError Io */
  static async destroy(directory: StorageDirectory, name: string): Promise<void> {
    // The index first: without it the file's content counts for nothing.
    await directory.remove(`${fileName(name)}.scratch-index`);
    await directory.remove(`${fileName(name)}.scratch`);
  }

  read(offset: number, target: Uint8Array): Completion {
    if (this.#closed) return this.#refuse();
    return this.#order.run(offset, target.byteLength, true, () => this.#read(offset, target));
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    if (this.#closed) return this.#refuse();
    const completion = this.#change(offset, data.byteLength, () => this.#file.write(offset, data));
    return options?.fua ? this.#thenSync(completion) : completion;
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    if (this.#closed) return this.#refuse();
    const space = options?.keepAllocated ? 'keep' : 'release';
    const completion = this.#change(offset, length, () => this.#file.zero(offset, length, space));
    return options?.fua ? this.#thenSync(completion) : completion;
  }

  trim(offset: number, length: number): Completion {
    return this.writeZeroes(offset, length);
  }

  flush(): Completion {
    if (this.#closed) return this.#refuse();
    return this.#unsaved ? this.#saves.sync() : this.#file.sync();
  }

  extents(offset: number, length: number): Extent[] {
    if (this.#closed) throw closedError();
    const extents: Extent[] = [];
    for (const piece of this.#pieces(offset, length)) {
      extents.push(...(piece.own ? this.#file : this.#base).extents(piece.offset, piece.length));
    }
    return extents;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#order.drained();
    try {
      await (this.#unsaved ? this.#saves.sync() : this.#file.sync());
    } finally {
      await this.#file.close();
      await this.#base.close();
    }
  }

  #read(offset: number, target: Uint8Array): Completion {
    const later: Promise<void>[] = [];
    for (const piece of this.#pieces(offset, target.byteLength)) {
      const part = target.subarray(piece.offset - offset, piece.offset - offset + piece.length);
      const completion = (piece.own ? this.#file : this.#base).read(piece.offset, part);
      if (completion) later.push(completion);
    }
    return later.length === 0 ? undefined : Promise.all(later).then(() => {});
  }

  /** Orders changes by whole blocks: one may have to fill a block that another covers in part. */
  #change(offset: number, length: number, apply: () => Completion): Completion {
    const first = Math.floor(offset / overlayBlockBytes);
    const last = Math.floor((offset + length - 1) / overlayBlockBytes);
    const start = first * overlayBlockBytes;
    const end = Math.min((last + 1) * overlayBlockBytes, this.size);
    return this.#order.run(start, end - start, false, () => {
      if (this.#ownsAll(first, last)) return apply();
      return this.#changeNew(first, last, offset, offset + length, apply);
    });
  }

  async #changeNew(first: number, last: number, offset: number, end: number, apply: () => Completion): Promise<void> {
    if (offset % overlayBlockBytes !== 0) await this.#fill(first);
    if (end % overlayBlockBytes !== 0 && end !== this.size && (last !== first || offset % overlayBlockBytes === 0)) {
      await this.#fill(last);
    }
    await apply();
    for (let block = first; block <= last; block += 1) this.#blocks.add(block);
    this.#unsaved = true;
    await this.#saves.sync();
  }

  /** Copies a block of the base into the file, for a change that covers it in part. */
  async #fill(block: number): Promise<void> {
    if (this.#blocks.has(block)) return;
    const start = block * overlayBlockBytes;
    const content = new Uint8Array(Math.min(overlayBlockBytes, this.size - start));
    await this.#base.read(start, content);
    await this.#file.write(start, content);
  }

  /** The index must not name a block before the block is on stable storage; so it is what it was before the sync. */
  async #saveOnce(): Promise<void> {
    this.#unsaved = false;
    try {
      const index = { deviceBytes: this.size, blockBytes: overlayBlockBytes, blocks: this.#blocks };
      const content = encodeScratchIndex(index);
      await this.#file.sync();
      await this.#directory.writeFile(`${this.#name}.scratch-index`, content);
    } catch (error) {
      this.#unsaved = true;
      throw error;
    }
  }

  async #thenSync(completion: Completion): Promise<void> {
    await completion;
    await this.#file.sync();
  }

  #ownsAll(first: number, last: number): boolean {
    for (let block = first; block <= last; block += 1) if (!this.#blocks.has(block)) return false;
    return true;
  }

  /** A range in stretches that come from the file or from the base. */
  #pieces(offset: number, length: number): { own: boolean; offset: number; length: number }[] {
    const pieces: { own: boolean; offset: number; length: number }[] = [];
    const end = offset + length;
    for (let position = offset; position < end; ) {
      const block = Math.floor(position / overlayBlockBytes);
      const pieceEnd = Math.min(end, (block + 1) * overlayBlockBytes);
      const own = this.#blocks.has(block);
      const last = pieces.at(-1);
      if (last?.own === own) last.length += pieceEnd - position;
      else pieces.push({ own, offset: position, length: pieceEnd - position });
      position = pieceEnd;
    }
    return pieces;
  }

  #refuse(): Promise<void> {
    return Promise.reject(closedError());
  }
}

function closedError(): UnderstudyError {
  return new UnderstudyError('Closed', 'the scratch overlay is closed');
}

/** Names of overlays are put together from others, and may be longer than a file's name can be. */
function fileName(name: string): string {
  return name.length <= maxNameLength ? name : `scratch-${createHash('sha256').update(name).digest('hex')}`;
}

const overlayBlockBytes = 4096;
const maxNameLength = 200;
