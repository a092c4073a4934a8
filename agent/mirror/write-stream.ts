import type { Clock } from '../../common/clock.ts';
import type { BlockMap } from './block-map.ts';
import { missedBlockBytes } from './differences.ts';
import type { Seal, StreamRecord } from './journal-codec.ts';
import { entryTypes, overheadBytes, type StreamEntry } from './stream-entry.ts';
import type { StreamJournal } from './stream-journal.ts';
import { UnsyncedMap } from './unsynced-map.ts';

export interface WriteStreamOptions {
  /** Identity of the stream, unlike that of any other. */
  readonly id: string;
  /** Bytes of entries kept in memory. */
  readonly queueBytes: number;
  /** Without one, the stream ends when the queue is full. */
  readonly journal: StreamJournal | undefined;
  readonly clock: Clock;
  /** Something came that can be taken. */
  readonly onReadable: () => void;
  /** An entry could not be kept: the stream has a gap and is of no more use. Called once. */
  readonly onBroken: (reason: string) => void;
}

interface Slot extends StreamRecord {
  /** Payload of all entries up to this one. */
  readonly endBytes: number;
}

interface Age {
  position: number;
  readonly atMs: number;
}

/** Points in time that are remembered, to tell the age of an entry. */
const maxAges = 1024;
const ageStepMs = 50;

/**
 * What a primary has written and an asynchronous standby has not confirmed, in the order of its issue: first in memory,
 * and what there is no room for behind that in the journal.
 *
 * Invariants
 * - Positions grow by one with each entry, beginning with 1. Every entry behind `confirmed` is in memory (`#slots`) or,
 *   behind all of those, in the journal.
 * - `take` hands entries out in order, each once, unless `rewind` goes back; it never goes back behind `confirmed`.
 * - Whatever an entry that is not confirmed has changed is in `#unsynced`, so that a stream that is given up leaves a
 *   complete record of what the standby may lack. Of a stream that goes on after a restart (`resumed`) that is not known;
 *   the write-intent bitmap has it.
 * - `append` never waits.
 */
export class WriteStream {
  readonly id: string;
  readonly #options: WriteStreamOptions;
  readonly #unsynced = new UnsyncedMap(missedBlockBytes);
  /** The entries from `#confirmed + 1` on that are in memory. */
  #slots: (Slot | undefined)[] = [];
  /** Index of the first of them: what lies before is free. */
  #first = 0;
  #confirmed = 0;
  /** Payload of everything up to `#confirmed`. */
  #confirmedBytes = 0;
  /** The next entry to be handed out. */
  #next = 1;
  #end = 0;
  #endBytes = 0;
  /** Payload of everything up to the last entry in memory. */
  #loadedBytes = 0;
  #held = 0;
  #heldBytes = 0;
  #ages: Age[] = [];
  /** Entries go to the journal. */
  #spilled = false;
  #loading: Promise<void> | undefined;
  #broken = false;
  resumed = false;
  #lastType: number | undefined;
  /** The position of the last announcement of disorder or order. */
  announced = 0;

  constructor(options: WriteStreamOptions) {
    this.id = options.id;
    this.#options = options;
  }

  /** Goes on with what an orderly stop has left; the journal has been opened with this seal. */
  static resume(seal: Seal, options: Omit<WriteStreamOptions, 'id'>): WriteStream {
    const stream = new WriteStream({ ...options, id: seal.stream });
    stream.resumed = true;
    stream.announced = seal.announced;
    stream.#confirmed = stream.#held = stream.#end = seal.confirmed;
    stream.#next = seal.confirmed + 1;
    for (const record of seal.records) {
      stream.#end = record.position;
      stream.#remember(record);
      stream.#push(record);
    }
    stream.#endBytes = stream.#loadedBytes;
    stream.#end = seal.end;
    if (seal.ring) {
      stream.#spilled = true;
      stream.#endBytes += seal.ring.to - seal.ring.from;
    }
    return stream;
  }

  /** The position of the last entry. */
  get end(): number {
    return this.#end;
  }

  get confirmed(): number {
    return this.#confirmed;
  }

  /** The position of the last entry that has been handed out. */
  get taken(): number {
    return this.#next - 1;
  }

  /** More is waiting than memory holds. */
  get spilled(): boolean {
    return this.#spilled;
  }

  /** Payload of what the standby does not hold. */
  get lagBytes(): number {
    return Math.max(0, this.#endBytes - this.#heldBytes);
  }

  /** Age of the oldest entry that the standby does not hold. */
  get lagMs(): number {
    const oldest = this.#ages[0];
    return oldest === undefined ? 0 : Math.max(0, this.#options.clock.monotonicMs() - oldest.atMs);
  }

  /** @returns its position */
  append(entry: StreamEntry): number {
    if (entry.type === entryTypes.flush && this.#lastType === entryTypes.flush) return this.#end;
    this.#lastType = entry.type;
    this.#note(entry);
    const record: StreamRecord = {
      position: this.#end + 1,
      wallTimeMs: this.#options.clock.wallTimeMs(),
      entry,
    };
    this.#end = record.position;
    if (entry.type === entryTypes.disorder || entry.type === entryTypes.order) this.announced = this.#end;
    this.#endBytes += entry.payload.length;
    this.#unsynced.flushSent(this.#end);
    if (this.#broken) return this.#end;
    this.#remember(record);
    if (!this.#spilled && this.#hasRoom(entry)) {
      this.#push(record);
    } else {
      this.#spilled = true;
      const { journal } = this.#options;
      if (!journal?.append(record)) this.#break(this.#whyNot(journal));
    }
    return this.#end;
  }

  /** The next entry, or undefined if none is in memory now; onReadable follows then, when one is. */
  take(): StreamEntry | undefined {
    const slot = this.#slotAt(this.#next);
    if (!slot) {
      this.#load();
      return undefined;
    }
    this.#next += 1;
    return slot.entry;
  }

  /** The next entry to be handed out is the one after `position`. False if that is not possible. */
  rewind(position: number): boolean {
    if (position < this.#confirmed || position > this.#lastInMemory) return false;
    this.#next = position + 1;
    this.#setHeld(position);
    return true;
  }

  /** The standby holds everything up to `position`. */
  held(position: number): void {
    if (position > this.#held) this.#setHeld(position);
  }

  /** The standby has everything up to `position` on stable storage: it is not needed here any more. */
  synced(position: number): void {
    if (position <= this.#confirmed) return;
    this.held(position);
    const last = this.#slotAt(position);
    if (last) this.#confirmedBytes = last.endBytes;
    for (let at = this.#confirmed; at < position; at += 1) {
      this.#slots[this.#first] = undefined;
      this.#first += 1;
    }
    if (this.#first > 4096 && this.#first * 2 > this.#slots.length) {
      this.#slots = this.#slots.slice(this.#first);
      this.#first = 0;
    }
    this.#confirmed = position;
    this.#unsynced.synced(position);
    this.#options.journal?.trim(position);
    this.#load();
  }

  /** The stream is given up: adds everything that the standby may lack to `missed`. */
  giveUp(missed: BlockMap): void {
    this.#broken = true;
    this.#unsynced.moveTo(missed);
    this.#slots = [];
    this.#options.journal?.clear();
  }

  /** For an orderly stop: writes down what is needed to go on after it. */
  async seal(): Promise<void> {
    const { journal } = this.#options;
    if (this.#broken || !journal) return;
    await this.#loading;
    const records = this.#slots.slice(this.#first).filter((slot) => slot !== undefined);
    await journal.seal({
      stream: this.id,
      confirmed: this.#confirmed,
      end: this.#end,
      announced: this.announced,
      records,
    });
  }

  get #lastInMemory(): number {
    return this.#confirmed + this.#slots.length - this.#first;
  }

  #slotAt(position: number): Slot | undefined {
    return this.#slots[this.#first + position - this.#confirmed - 1];
  }

  #hasRoom(entry: StreamEntry): boolean {
    const usedBytes = this.#usedBytes;
    return usedBytes === 0 || usedBytes + overheadBytes + entry.payload.length <= this.#options.queueBytes;
  }

  /** What the entries in memory take of it. */
  get #usedBytes(): number {
    return this.#loadedBytes - this.#confirmedBytes + (this.#slots.length - this.#first) * overheadBytes;
  }

  #push(record: StreamRecord): void {
    this.#loadedBytes += record.entry.payload.length;
    this.#slots.push({ ...record, endBytes: this.#loadedBytes });
  }

  /** Notes what an entry changes. */
  #note({ type, offset, length, payload }: StreamEntry): void {
    if (type === entryTypes.write) this.#unsynced.sent({ offset, length: payload.length });
    else if (type === entryTypes.zero) this.#unsynced.sent({ offset, length });
  }

  #setHeld(position: number): void {
    this.#held = position;
    this.#heldBytes = position <= this.#confirmed ? this.#confirmedBytes : (this.#slotAt(position)?.endBytes ?? 0);
    while (this.#ages[0] && this.#ages[0].position <= position) this.#ages.shift();
  }

  /** An age stands for all entries behind the age before it. */
  #remember({ position, wallTimeMs }: StreamRecord): void {
    const { clock } = this.#options;
    const atMs = clock.monotonicMs() - Math.max(0, clock.wallTimeMs() - wallTimeMs);
    const last = this.#ages.at(-1);
    if (last && atMs - last.atMs < ageStepMs) last.position = position;
    else this.#ages.push({ position, atMs });
    if (this.#ages.length < maxAges) return;
    // Half of them, each standing for the one before it as well, but no younger than that.
    this.#ages = this.#ages.flatMap((age, at) => {
      const before = this.#ages[at - 1];
      return at % 2 === 1 && before ? [{ position: age.position, atMs: before.atMs }] : [];
    });
  }

  /** Brings the next part of the journal into memory, when half of the queue is free. */
  #load(): void {
    const { journal, queueBytes } = this.#options;
    if (!this.#spilled || this.#loading || this.#broken || !journal) return;
    if (this.#usedBytes > queueBytes / 2) return;
    this.#loading = journal
      .read()
      .then((records) => {
        if (this.#broken) return;
        for (const record of records) this.#push(record);
        this.#spilled = journal.hasUnread;
        if (!this.#spilled) this.#endBytes = this.#loadedBytes;
      })
      .catch((error: unknown) => this.#break(String(error instanceof Error ? error.message : error)))
      .finally(() => {
        this.#loading = undefined;
        if (!this.#broken) this.#options.onReadable();
      });
  }

  #whyNot(journal: StreamJournal | undefined): string {
    if (!journal || journal.capacityBytes === 0) return 'the queue is full, and there is no journal';
    return `the journal of ${journal.capacityBytes} bytes is full, or its disk too slow`;
  }

  #break(reason: string): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#options.onBroken(reason);
  }
}
