/**
 * Which chunks of a volume hold their content themselves, while the volume is being filled from a snapshot.
 *
 * Format: the file `fill`, a log with a place of 16 bytes for each chunk, so that no record crosses a sector: the first
 * chunk (u32), how many (u32), how many records before this one were on stable storage when it was written (u32), the
 * CRC-32 of all that (u32), little-endian. A place that was never written reads as zeroes.
 *
 * Invariants
 * - A record is written only when the content of its chunks is on stable storage: whatever a crash loses, there is never a
 *   record without its content.
 * - A chunk is filled once; so there are never more records than places.
 * - What a crash may lose is records that were not synced. One that was, and is not there or damaged, is an error: the
 *   chunk would be filled again, over what has been written to it since.
 */
import { crc32 } from 'node:zlib';
import { UnderstudyError } from '../../common/errors.ts';
import type { Range } from '../core/range.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';

export const fillChunkBytes = 64 * 1024;
const fillFile = 'fill';
const recordBytes = 16;
/** Read at once when the log is opened. */
const windowBytes = 1024 * 1024;

export class FilledChunks {
  readonly sizeBytes: number;
  readonly #file: RandomAccessFile;
  readonly #filled: Uint8Array;
  #missing: number;
  /** Places in use, and how many of them from the start are on stable storage. */
  #records = 0;
  #synced = 0;
  /** Records are written one after the other. */
  #marking: Promise<void> = Promise.resolve();

  private constructor(file: RandomAccessFile, sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#file = file;
    this.#missing = Math.ceil(sizeBytes / fillChunkBytes);
    this.#filled = new Uint8Array(this.#missing);
  }

  /**
   * `isNew`: nothing is filled yet. Otherwise the log must be there.
   * @throws UnderstudyError NotFound, Corrupt, Io
   */
  static async open(directory: StorageDirectory, sizeBytes: number, isNew: boolean): Promise<FilledChunks> {
    const logBytes = Math.ceil(sizeBytes / fillChunkBytes) * recordBytes;
    if (isNew) await directory.remove(fillFile);
    const file = await directory.open(fillFile, isNew ? { create: { size: logBytes, space: 'sparse' } } : {});
    const chunks = new FilledChunks(file, sizeBytes);
    if (isNew) await file.sync();
    else await chunks.#load(logBytes);
    return chunks;
  }

  /** Removes what is left of a filling that is over. */
  static async remove(directory: StorageDirectory): Promise<void> {
    await directory.remove(fillFile);
  }

  get isComplete(): boolean {
    return this.#missing === 0;
  }

  get isSynced(): boolean {
    return this.#synced === this.#records;
  }

  get filledBytes(): number {
    return Math.max(0, this.sizeBytes - this.#missing * fillChunkBytes);
  }

  /** Whether every chunk that the range touches is filled; what lies behind the filled size is. */
  has({ offset, length }: Range): boolean {
    const { first, end } = this.#chunksOf({ offset, length });
    return this.isComplete || end <= first || !this.#filled.subarray(first, end).includes(0);
  }

  /** The parts of a range, in order and without gaps: filled or not, to the chunk within the range. */
  *parts({ offset, length }: Range): Generator<Range & { readonly filled: boolean }> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const filled = this.#isFilled(at);
      let next = Math.min(end, nextChunk(at));
      while (next < end && this.#isFilled(next) === filled) next = Math.min(end, nextChunk(next));
      yield { offset: at, length: next - at, filled };
      at = next;
    }
  }

  /** The first run of chunks that are missing, from `from` on or else from the start; at most so many bytes of it. */
  nextMissing(from: number, maxBytes: number): Range | undefined {
    const start = Math.floor(from / fillChunkBytes);
    const behind = this.#filled.indexOf(0, start);
    const first = behind >= 0 ? behind : this.#filled.indexOf(0);
    if (first < 0) return undefined;
    const filled = this.#filled.indexOf(1, first);
    const offset = first * fillChunkBytes;
    const end = Math.min(filled < 0 ? this.sizeBytes : filled * fillChunkBytes, offset + maxBytes, this.sizeBytes);
    return { offset, length: end - offset };
  }

  /** Notes that the chunks of the range are filled: their content is on stable storage. @throws UnderstudyError Io */
  mark(range: Range): Promise<void> {
    const marked = this.#marking.then(() => this.#mark(range));
    // A place that could not be written is used for the next record.
    this.#marking = marked.catch(() => undefined);
    return marked;
  }

  /** What was marked before the call is on stable storage when this resolves. */
  async sync(): Promise<void> {
    const records = this.#records;
    await this.#file.sync();
    this.#synced = Math.max(this.#synced, records);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #mark(range: Range): Promise<void> {
    for (const part of [...this.parts(range)].filter(({ filled }) => !filled)) {
      const { first, end } = this.#chunksOf(part);
      await this.#file.write(this.#records * recordBytes, encode(first, end - first, this.#synced));
      this.#records += 1;
      this.#filled.fill(1, first, end);
      this.#missing -= end - first;
    }
  }

  #chunksOf({ offset, length }: Range): { first: number; end: number } {
    const end = Math.min(Math.ceil((offset + length) / fillChunkBytes), this.#filled.length);
    return { first: Math.floor(offset / fillChunkBytes), end };
  }

  #isFilled(offset: number): boolean {
    return this.#filled[Math.floor(offset / fillChunkBytes)] !== 0;
  }

  async #load(logBytes: number): Promise<void> {
    const present = new Set<number>();
    let offset = 0;
    for (const extent of this.#file.extents(0, logBytes)) {
      const end = offset + extent.length;
      if (!extent.zero)
        for (let at = offset; at < end; at += windowBytes)
          await this.#loadWindow(at, Math.min(windowBytes, end - at), present);
      offset = end;
    }
    this.#records = ([...present].at(-1) ?? -1) + 1;
    for (let place = 0; place < this.#synced; place += 1) if (!present.has(place)) throw damaged(place);
    await this.sync();
  }

  async #loadWindow(offset: number, length: number, present: Set<number>): Promise<void> {
    const window = Buffer.alloc(length);
    await this.#file.read(offset, window);
    for (let at = 0; at < length; at += recordBytes) {
      const record = window.subarray(at, at + recordBytes);
      if (record.every((byte) => byte === 0)) continue;
      const place = (offset + at) / recordBytes;
      const decoded = decode(record);
      if (decoded === undefined || decoded.first + decoded.count > this.#filled.length) throw damaged(place);
      present.add(place);
      this.#synced = Math.max(this.#synced, decoded.synced);
      for (let chunk = decoded.first; chunk < decoded.first + decoded.count; chunk += 1) {
        if (this.#filled[chunk] === 0) this.#missing -= 1;
        this.#filled[chunk] = 1;
      }
    }
  }
}

function nextChunk(offset: number): number {
  return (Math.floor(offset / fillChunkBytes) + 1) * fillChunkBytes;
}

function encode(first: number, count: number, synced: number): Buffer {
  const record = Buffer.alloc(recordBytes);
  record.writeUInt32LE(first, 0);
  record.writeUInt32LE(count, 4);
  record.writeUInt32LE(synced, 8);
  record.writeUInt32LE(crc32(record.subarray(0, 12)), 12);
  return record;
}

function decode(record: Buffer): { first: number; count: number; synced: number } | undefined {
  if (crc32(record.subarray(0, 12)) !== record.readUInt32LE(12)) return undefined;
  return { first: record.readUInt32LE(0), count: record.readUInt32LE(4), synced: record.readUInt32LE(8) };
}

function damaged(place: number): UnderstudyError {
  return new UnderstudyError(
    'Corrupt',
    `the record of what has been filled is damaged (record ${place} of ${fillFile}): make the volume anew from its snapshot`,
  );
}
