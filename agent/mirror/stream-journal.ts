/**
 * The journal of an asynchronous mirror: the part of its stream for which there is no room in memory, first in, first out.
 * Format: journal-codec.ts. The file `<name>` is the ring, `<name>.seal` the seal.
 *
 * Invariants
 * - Nobody waits for it: what is appended is queued and written in the background, and when that takes too long, or
 *   fails, or the ring is full, `append` says so, and the stream is given up. The primary's writes go on (invariant 7).
 * - A record is overwritten only after the standby has confirmed to have synced what it says (`trim`).
 * - A record is used only if its checksum is right and its position is the next one.
 * - What a crash leaves is not used: writes that had been applied locally may never have reached the journal. Only a seal
 *   makes it trustworthy, and the ring and the seal are on stable storage when `seal` resolves.
 */
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';
import {
  decodeRecords,
  decodeSeal,
  encodeRecordHeader,
  encodeSeal,
  recordBytes,
  type Seal,
  type StreamRecord,
} from './journal-codec.ts';

const readBytes = 1024 * 1024;
const writeBytes = 1024 * 1024;
/** Bytes appended and not yet written, above which the disk counts as too slow. */
const maxPendingBytes = 16 * 1024 * 1024;
/** The tail moves in steps of at least this size. */
const markBytes = 64 * 1024;

export interface JournalPlace {
  readonly directory: StorageDirectory;
  readonly name: string;
  readonly capacityBytes: number;
}

export class StreamJournal {
  readonly #place: JournalPlace;
  readonly #log: Log;
  #file: RandomAccessFile | undefined;
  #failure: string | undefined;
  /** Offsets that count on at each round: [tail, read) may be needed again, [read, written) and then to head is unread. */
  #tail = 0;
  #read = 0;
  #written = 0;
  #head = 0;
  /** The position of the next record to be read. */
  #readPosition = 1;
  #pending: Uint8Array[] = [];
  #writing: Promise<void> | undefined;
  /** Where the record with this position, the last one of a stretch, ends. */
  #marks: { position: number; end: number }[] = [];

  private constructor(place: JournalPlace, log: Log) {
    this.#place = place;
    this.#log = log;
  }

  /**
   * Opens a mirror's journal, or makes it. One that cannot be had is none: the stream is in memory only then.
   * @returns with the seal of an orderly stop, if it holds; it is gone from the disk then
   */
  static async open(place: JournalPlace, log: Log): Promise<{ journal: StreamJournal; seal: Seal | undefined }> {
    const journal = new StreamJournal(place, log);
    const { directory, name, capacityBytes } = place;
    try {
      journal.#file = await directory.open(name, {
        create: { size: capacityBytes, space: 'allocate' },
        background: true,
      });
    } catch (error) {
      journal.#failure = errorMessage(error);
      log.warn({ error: journal.#failure }, 'the mirror has no journal; it falls back to a resync sooner');
    }
    return { journal, seal: await journal.#unseal() };
  }

  static async remove({ directory, name }: JournalPlace): Promise<void> {
    await directory.remove(sealOf(name));
    await directory.remove(name);
  }

  get capacityBytes(): number {
    return this.#failure === undefined ? (this.#file?.size ?? 0) : 0;
  }

  get usage(): { capacity: number; usedBytes: number } {
    return { capacity: this.#place.capacityBytes, usedBytes: this.#usedBytes };
  }

  get #usedBytes(): number {
    return this.#head - this.#tail;
  }

  get hasUnread(): boolean {
    return this.#read < this.#head;
  }

  /** False if there is no room, or the disk cannot keep up: the stream has a gap then, and is to be given up. */
  append(record: StreamRecord): boolean {
    const size = recordBytes(record.entry);
    const full = this.#usedBytes + size > this.capacityBytes || this.#head - this.#written + size > maxPendingBytes;
    if (full) return false;
    if (this.#read === this.#head) this.#readPosition = record.position;
    this.#pending.push(encodeRecordHeader(record));
    if (record.entry.payload.length > 0) this.#pending.push(record.entry.payload);
    this.#head += size;
    const last = this.#marks.at(-1);
    if (last && this.#head - (this.#marks.at(-2)?.end ?? this.#tail) < markBytes) {
      last.position = record.position;
      last.end = this.#head;
    } else {
      this.#marks.push({ position: record.position, end: this.#head });
    }
    this.#writing ??= this.#write();
    return true;
  }

  /** The next records, in order; at least one if there is any. @throws UnderstudyError Io, Corrupt */
  async read(): Promise<StreamRecord[]> {
    let wanted = readBytes;
    for (;;) {
      while (this.#written - this.#read < Math.min(wanted, this.#head - this.#read) && this.#writing)
        await this.#writing;
      this.#check();
      const length = Math.min(wanted, this.#written - this.#read);
      if (length === 0) {
        if (!this.hasUnread) return [];
        throw new UnderstudyError('Internal', 'the journal lacks what was appended to it');
      }
      const bytes = Buffer.allocUnsafeSlow(length);
      for (const piece of this.#piecesOf(this.#read, length)) {
        await this.#file?.read(piece.at, bytes.subarray(piece.from, piece.from + piece.length));
      }
      const { records, usedBytes, neededBytes } = decodeRecords(bytes, this.#readPosition);
      this.#read += usedBytes;
      this.#readPosition += records.length;
      if (records.length > 0) return records;
      if (neededBytes <= wanted) throw new UnderstudyError('Corrupt', 'the journal ends in the middle of a record');
      wanted = neededBytes;
    }
  }

  /** The standby has synced everything up to this position: the space of what has been read and is not needed is free. */
  trim(position: number): void {
    let count = 0;
    for (const mark of this.#marks) {
      if (mark.position > position || mark.end > this.#read) break;
      this.#tail = mark.end;
      count += 1;
    }
    this.#marks.splice(0, count);
  }

  /** Nothing in it is needed any more. */
  clear(): void {
    this.#tail = this.#read = this.#head;
    this.#marks = [];
  }

  /** Writes down that, and how, the stream can go on after a restart. `records`: what comes before what is unread here. */
  async seal({ records, ...header }: Omit<Seal, 'ring'>): Promise<void> {
    await this.#writing;
    let ring: Seal['ring'];
    if (this.hasUnread) {
      this.#check();
      await this.#file?.sync();
      ring = { from: this.#read, to: this.#head, dataBytes: this.capacityBytes };
    }
    const { directory, name } = this.#place;
    await directory.writeFile(sealOf(name), encodeSeal({ ...header, records, ...(ring ? { ring } : {}) }));
  }

  async close(): Promise<void> {
    await this.#writing?.catch(() => undefined);
    await this.#file?.close();
  }

  async remove(): Promise<void> {
    await this.close();
    await StreamJournal.remove(this.#place);
  }

  /** The seal, if there is one that holds. It is removed in any case: from here on the ring may change. */
  async #unseal(): Promise<Seal | undefined> {
    const { directory, name } = this.#place;
    const content = await directory.readFile(sealOf(name));
    if (!content) return undefined;
    await directory.remove(sealOf(name));
    try {
      const seal = decodeSeal(content);
      const { ring, records, confirmed } = seal;
      if (!ring) return seal;
      this.#check();
      const size = this.#file?.size ?? 0;
      const length = ring.to - ring.from;
      if (ring.dataBytes !== size || length <= 0 || length > size)
        throw new UnderstudyError('Corrupt', `the journal has ${size} bytes, the seal speaks of ${ring.dataBytes}`);
      this.#tail = this.#read = ring.from;
      this.#written = this.#head = ring.to;
      this.#readPosition = confirmed + records.length + 1;
      this.#marks = [{ position: seal.end, end: ring.to }];
      return seal;
    } catch (error) {
      this.clear();
      this.#log.warn({ error: errorMessage(error) }, 'the journal cannot be used; the standby is resynchronised');
      return undefined;
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw new UnderstudyError('Io', this.#failure);
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0 && this.#failure === undefined) {
      const pieces: Uint8Array[] = [];
      let length = 0;
      let count = 0;
      for (const piece of this.#pending) {
        if (count > 0 && length + piece.length > writeBytes) break;
        pieces.push(piece);
        length += piece.length;
        count += 1;
      }
      this.#pending.splice(0, count);
      const bytes = Buffer.concat(pieces, length);
      try {
        for (const piece of this.#piecesOf(this.#written, length)) {
          await this.#file?.write(piece.at, bytes.subarray(piece.from, piece.from + piece.length));
        }
        this.#written += length;
      } catch (error) {
        this.#failure = `the journal failed: ${errorMessage(error)}`;
        this.#pending = [];
        this.#log.error({ error: this.#failure }, 'the mirror goes on without its journal');
      }
    }
    // In the same turn as the last look at the queue: whoever appends after it starts anew.
    this.#writing = undefined;
  }

  /** A stretch of the ring as one or two stretches of the file. */
  #piecesOf(offset: number, length: number): { at: number; from: number; length: number }[] {
    const size = this.#file?.size ?? 0;
    const at = offset % size;
    const first = Math.min(length, size - at);
    const pieces = [{ at, from: 0, length: first }];
    if (first < length) pieces.push({ at: 0, from: first, length: length - first });
    return pieces;
  }
}

function sealOf(name: string): string {
  return `${name}.seal`;
}
