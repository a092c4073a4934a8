import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { Range } from '../core/range.ts';
import { RangeOrder } from '../store/range-order.ts';
import type { FillSource } from './fill-source.ts';
import { type FilledChunks, fillChunkBytes } from './filled-chunks.ts';

/** Read from the source at once. */
const pieceBytes = 1024 * 1024;

export interface FillDeviceOptions {
  readonly base: BlockDevice;
  readonly filled: FilledChunks;
  /** What chunks hold that are not filled. */
  readonly source: Pick<FillSource, 'read'>;
  /** Ends whatever waits for the source. */
  readonly stop: () => Promise<void>;
}

/**
 * A volume whose content is that of a snapshot elsewhere, until it has all of it itself. Whoever is above sees the whole
 * content from the beginning. What holds:
 *
 * - A chunk is read from the source until it is filled, and never after that.
 * - A write to a chunk that is not filled fills it first, as far as the write leaves something of it; it completes when that
 *   is on stable storage and marked. So a write that completed is found after the death of the process, and after a crash
 *   of the machine a chunk holds either nothing but the source's content, or the write in it.
 * - A flush covers the marks of what was written before it.
 * - Operations on one chunk keep their order, the filling among them.
 */
export class FillDevice implements BlockDevice {
  readonly #options: FillDeviceOptions;
  readonly #order = new RangeOrder();
  #wanted: number | undefined;
  #closed = false;

  constructor(options: FillDeviceOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#options.base.size;
  }

  get blockSize(): number {
    return this.#options.base.blockSize;
  }

  /** Where somebody has read what is not filled yet, once. */
  takeWanted(): number | undefined {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    return wanted;
  }

  read(offset: number, target: Uint8Array): Completion {
    const { base, filled } = this.#options;
    const range = { offset, length: target.byteLength };
    return this.#run(range, true, () =>
      filled.has(range) ? base.read(offset, target) : this.#readParts(range, target),
    );
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    const { base } = this.#options;
    return this.#modify({ offset, length: data.byteLength }, options, () => base.write(offset, data, options));
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    const { base } = this.#options;
    return this.#modify({ offset, length }, options, () => base.writeZeroes(offset, length, options));
  }

  trim(offset: number, length: number): Completion {
    return this.#modify({ offset, length }, undefined, () => this.#options.base.trim(offset, length));
  }

  flush(): Completion {
    const { base, filled } = this.#options;
    if (filled.isSynced || this.#closed) return base.flush();
    return Promise.all([base.flush(), filled.sync()]).then(() => undefined);
  }

  extents(offset: number, length: number): Extent[] {
    const { base, filled } = this.#options;
    const extents: Extent[] = [];
    for (const part of filled.parts({ offset, length })) {
      if (part.filled) extents.push(...base.extents(part.offset, part.length));
      else extents.push({ length: part.length, zero: false, hole: false });
    }
    return extents;
  }

  /** Gives the chunks of a range, those that are not filled, the source's content; `zero`: which is zeroes. */
  async fill(range: Range, zero: boolean): Promise<void> {
    await this.#run(range, false, () => this.#fillParts(range, zero));
  }

  async close(): Promise<void> {
    const { base, filled, stop } = this.#options;
    if (this.#closed) return;
    this.#closed = true;
    await stop();
    await this.#order.drained();
    try {
      await base.close();
    } finally {
      await filled.close();
    }
  }

  #run(range: Range, reads: boolean, operation: () => Completion): Completion {
    if (this.#closed) return Promise.reject(new UnderstudyError('Closed', 'the device is closed'));
    const { offset, length } = wholeChunks(range);
    return this.#order.run(offset, length, reads, operation);
  }

  #modify(range: Range, options: WriteOptions | undefined, operation: () => Completion): Completion {
    const { filled } = this.#options;
    return this.#run(range, false, () =>
      filled.has(range) ? operation() : this.#fillAndModify(range, options, operation),
    );
  }

  async #fillAndModify(range: Range, options: WriteOptions | undefined, operation: () => Completion): Promise<void> {
    const { base, filled } = this.#options;
    for (const edge of this.#edges(range)) await this.#copy(edge);
    await operation();
    await base.flush();
    await filled.mark(range);
    if (options?.fua) await filled.sync();
  }

  /** The chunks at its ends that the range does not cover. */
  #edges({ offset, length }: Range): Range[] {
    const { filled } = this.#options;
    const end = offset + length;
    const first = this.#chunkAt(offset);
    const last = this.#chunkAt(end - 1);
    const edges = first.offset === last.offset ? [first] : [first, last];
    return edges.filter((chunk) => !filled.has(chunk) && (chunk.offset < offset || chunk.offset + chunk.length > end));
  }

  #chunkAt(offset: number): Range {
    const start = offset - (offset % fillChunkBytes);
    return { offset: start, length: Math.min(fillChunkBytes, this.#options.filled.sizeBytes - start) };
  }

  async #readParts({ offset, length }: Range, target: Uint8Array): Promise<void> {
    const { base, filled, source } = this.#options;
    for (const part of [...filled.parts({ offset, length })].flatMap(pieces)) {
      const place = target.subarray(part.offset - offset, part.offset - offset + part.length);
      if (part.filled) {
        await base.read(part.offset, place);
        continue;
      }
      this.#wanted = part.offset;
      place.set(await source.read(part));
    }
  }

  async #fillParts(range: Range, zero: boolean): Promise<void> {
    const { base, filled } = this.#options;
    const missing = [...filled.parts(range)].filter((part) => !part.filled);
    if (missing.length === 0) return;
    for (const part of missing) {
      if (zero) await base.writeZeroes(part.offset, part.length);
      else for (const piece of pieces(part)) await this.#copy(piece);
    }
    await base.flush();
    await filled.mark(range);
  }

  async #copy({ offset, length }: Range): Promise<void> {
    const { base, source } = this.#options;
    await base.write(offset, await source.read({ offset, length }));
  }
}

function wholeChunks({ offset, length }: Range): Range {
  const start = offset - (offset % fillChunkBytes);
  return { offset: start, length: Math.ceil((offset + length) / fillChunkBytes) * fillChunkBytes - start };
}

function pieces<Part extends Range>(part: Part): Part[] {
  const cut: Part[] = [];
  for (let at = 0; at < part.length; at += pieceBytes)
    cut.push({ ...part, offset: part.offset + at, length: Math.min(pieceBytes, part.length - at) });
  return cut;
}
