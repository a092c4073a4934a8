/**
 * The persistent write-intent bitmap of a primary: which regions may differ between its copies after a crash.
 *
 * File format, version 1: pages of 4096 bytes. Each page holds 4080 bytes of bits (bit `n` of byte `b` is region
 * `page * 32640 + b * 8 + n`), then the magic "UDIB", the format version (u16), the base-2 logarithm of
 * the region size (u16), the page's number (u32), and the CRC-32 of everything before it (u32), little-endian.
 *
 * Invariants
 * - A bit is on stable storage before the first write into its region may go anywhere.
 * - Bits are cleared lazily; a bit that is set needlessly costs a comparison, one that is missing costs the volume.
 * - A page that is torn, damaged, missing or of another region size counts as all ones. After a crash at any instant the bitmap is a superset of
 *   the truth.
 */
import { crc32 } from 'node:zlib';
import { UnderstudyError } from '../../common/errors.ts';
import type { Range } from '../core/range.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';
import { RegionBitmap } from './region-bitmap.ts';

const pageBytes = 4096;
const bitBytes = 4080;
const regionsPerPage = bitBytes * 8;
const formatVersion = 1;
const magic = Buffer.from('UDIB');

/** 4 MiB up to 256 GiB; beyond that more, so that the bitmap stays within 64 Ki regions. */
export function regionBytesFor(volumeBytes: number): number {
  let regionBytes = 4 * 1024 * 1024;
  while (volumeBytes / regionBytes > 64 * 1024) regionBytes *= 2;
  return regionBytes;
}

export class IntentBitmap {
  readonly #file: RandomAccessFile;
  readonly #bitmap: RegionBitmap;
  readonly #volumeBytes: number;
  /** Pages that must be written with the next commit. */
  #unwritten = new Set<number>();
  /** Regions whose bit the running and the next commit make durable. */
  #setting = new Set<number>();
  #commit: Promise<void> | undefined;
  #nextCommit: Promise<void> | undefined;

  private constructor(file: RandomAccessFile, bitmap: RegionBitmap, volumeBytes: number) {
    this.#file = file;
    this.#bitmap = bitmap;
    this.#volumeBytes = volumeBytes;
  }

  /** Opens the bitmap, or creates an empty one; what was set before is in `ranges()`. */
  static async open(directory: StorageDirectory, name: string, volumeBytes: number): Promise<IntentBitmap> {
    const regionBytes = regionBytesFor(volumeBytes);
    const bitmap = new RegionBitmap(regionBytes, Math.ceil(volumeBytes / regionBytes));
    const pages = Math.ceil(bitmap.regionCount / regionsPerPage);
    const present = (await directory.list()).includes(name);
    const file = await directory.open(name, { create: { size: pages * pageBytes, space: 'allocate' } });
    const intent = new IntentBitmap(file, bitmap, volumeBytes);
    if (present) await intent.#load(pages);
    else await intent.#initialise(pages);
    return intent;
  }

  get regionBytes(): number {
    return this.#bitmap.regionBytes;
  }

  /** True if a write into the range may go ahead; notes it. Otherwise call `prepare` and wait. */
  touch(offset: number, length: number): boolean {
    const { first, last } = this.#bitmap.regionsOf(offset, length);
    for (let region = first; region <= last; region += 1) if (!this.#bitmap.isDurable(region)) return false;
    for (let region = first; region <= last; region += 1) this.#bitmap.touch(region);
    return true;
  }

  /** Resolves when every bit of the range is on stable storage. Calls that come during a commit share the next one. */
  async prepare(offset: number, length: number): Promise<void> {
    const { first, last } = this.#bitmap.regionsOf(offset, length);
    for (let region = first; region <= last; region += 1) {
      if (this.#bitmap.isDurable(region)) continue;
      this.#setting.add(region);
      this.#unwritten.add(Math.floor(region / regionsPerPage));
    }
    await this.#scheduleCommit();
  }

  /** The stretches of the volume whose bits are set. */
  *ranges(): Generator<Range> {
    const { regionBytes } = this.#bitmap;
    for (const region of this.#bitmap.durableRegions()) {
      const offset = region * regionBytes;
      yield { offset, length: Math.min(regionBytes, this.#volumeBytes - offset) };
    }
  }

  /**
   * Begins a round, and a checkpoint if some regions have had no write in the `quiet` rounds before; with 0, of all whose
   * bit is set. @returns whether a checkpoint has begun
   */
  beginCheckpoint(quiet: number): boolean {
    return this.#bitmap.beginCheckpoint(quiet);
  }

  /** Call after a sync of every copy that began after beginCheckpoint. Clearing on disk waits for the next commit. */
  endCheckpoint(): void {
    for (const region of this.#bitmap.endCheckpoint()) this.#unwritten.add(Math.floor(region / regionsPerPage));
  }

  abandonCheckpoint(): void {
    this.#bitmap.abandonCheckpoint();
  }

  /** Brings cleared bits to the disk; for an orderly stop. */
  async flush(): Promise<void> {
    if (this.#unwritten.size > 0) await this.#scheduleCommit();
  }

  async close(): Promise<void> {
    await this.#commit?.catch(() => undefined);
    await this.#file.close();
  }

  #scheduleCommit(): Promise<void> {
    if (!this.#commit) {
      this.#commit = this.#runCommit().finally(() => {
        this.#commit = undefined;
      });
      return this.#commit;
    }
    this.#nextCommit ??= this.#commit
      .catch(() => undefined)
      .then(() => {
        this.#nextCommit = undefined;
        return this.#scheduleCommit();
      });
    return this.#nextCommit;
  }

  async #runCommit(): Promise<void> {
    const pages = this.#unwritten;
    const setting = this.#setting;
    this.#unwritten = new Set();
    this.#setting = new Set();
    try {
      for (const page of pages) await this.#file.write(page * pageBytes, this.#encodePage(page, setting));
      await this.#file.sync();
    } catch (cause) {
      for (const page of pages) this.#unwritten.add(page);
      throw new UnderstudyError('Io', 'the write-intent bitmap cannot be written; the volume takes no more writes', {
        cause,
      });
    }
    for (const region of setting) this.#bitmap.setDurable(region);
  }

  #encodePage(page: number, setting: ReadonlySet<number>): Buffer {
    const buffer = Buffer.alloc(pageBytes);
    const first = page * regionsPerPage;
    const end = Math.min(first + regionsPerPage, this.#bitmap.regionCount);
    for (let region = first; region < end; region += 1) {
      if (!this.#bitmap.isDurable(region) && !setting.has(region)) continue;
      const bit = region - first;
      buffer[bit >>> 3] = (buffer[bit >>> 3] ?? 0) | (1 << (bit & 7));
    }
    magic.copy(buffer, bitBytes);
    buffer.writeUInt16LE(formatVersion, bitBytes + 4);
    buffer.writeUInt16LE(Math.log2(this.regionBytes), bitBytes + 6);
    buffer.writeUInt32LE(page, bitBytes + 8);
    buffer.writeUInt32LE(crc32(buffer.subarray(0, pageBytes - 4)), pageBytes - 4);
    return buffer;
  }

  async #initialise(pages: number): Promise<void> {
    for (let page = 0; page < pages; page += 1) {
      await this.#file.write(page * pageBytes, this.#encodePage(page, new Set()));
    }
    await this.#file.sync();
  }

  async #load(pages: number): Promise<void> {
    for (let page = 0; page < pages; page += 1) {
      const buffer = await this.#readPage(page);
      const first = page * regionsPerPage;
      const end = Math.min(first + regionsPerPage, this.#bitmap.regionCount);
      for (let region = first; region < end; region += 1) {
        const bit = region - first;
        if (!buffer || ((buffer[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0) this.#bitmap.setDurable(region);
      }
    }
  }

  /** The page, or undefined if it is not what was written. */
  async #readPage(page: number): Promise<Buffer | undefined> {
    if ((page + 1) * pageBytes > this.#file.size) return undefined;
    const buffer = Buffer.alloc(pageBytes);
    await this.#file.read(page * pageBytes, buffer);
    const whole =
      buffer.subarray(bitBytes, bitBytes + 4).equals(magic) &&
      buffer.readUInt16LE(bitBytes + 4) === formatVersion &&
      buffer.readUInt16LE(bitBytes + 6) === Math.log2(this.regionBytes) &&
      buffer.readUInt32LE(bitBytes + 8) === page &&
      buffer.readUInt32LE(pageBytes - 4) === crc32(buffer.subarray(0, pageBytes - 4));
    return whole ? buffer : undefined;
  }
}
