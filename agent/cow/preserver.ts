import type { Clock, Timer } from '../../common/clock.ts';
import { errorCode, errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { maxEntries } from './buffer-layout.ts';
import { checksum, isZero } from './chunk-content.ts';
import { none } from './chunk-table.ts';
import type { LossRecord } from './loss-record.ts';
import type { SnapshotBuffer } from './snapshot-buffer.ts';
import type { Snapshot } from './snapshot-map.ts';

export interface PreserverOptions {
  readonly base: BlockDevice;
  readonly buffer: SnapshotBuffer;
  readonly losses: LossRecord;
  readonly clock: Clock;
  readonly log: Log;
  readonly deadlineMs: number;
  /** Told of each snapshot that is lost, once. */
  readonly onLost: (snapshot: Snapshot) => void;
  /** Chunks may have become ready. */
  readonly onProgress: () => void;
}

/** A chunk that is not to be overwritten yet. */
interface Flight {
  readonly chunk: number;
  readonly startedMs: number;
  /** Copying: its content is on its way into a slot. Recorded: its record waits for a commit. Held: see Guard. */
  state: 'copying' | 'recorded' | 'held' | 'abandoned';
}

/**
 * A snapshot that was the newest and has just been dropped, which is not on stable storage yet. Until it is, a crash
 * brings the snapshot back: the chunks that it would still read from the volume must not be overwritten.
 */
interface Guard {
  readonly id: number;
  readonly chunkLimit: number;
}

/**
 * Sees to it that the old content of a chunk is on stable storage before the chunk is overwritten, or that the snapshots
 * that need it are lost: as a whole, recorded, and reported. It never makes a write fail, and makes none wait for longer
 * than the deadline (rule 16).
 *
 * - All chunks that are copied while a commit runs share the next one.
 * - Full: the oldest snapshots are invalidated until a slot is free.
 * - Stuck (a commit is not over by the deadline): the snapshots that need the waiting chunks are invalidated, and until a
 *   commit succeeds no write waits for the buffer again.
 * - Failed: all snapshots are invalidated.
 */
export class Preserver {
  readonly #options: PreserverOptions;
  readonly #buffer: SnapshotBuffer;
  readonly #flights = new Map<number, Flight>();
  /** Recorded since the last commit was called. */
  #recorded: Flight[] = [];
  #awaitingSlots: Flight[] = [];
  #commitScheduled = false;
  #stuck = false;
  #timer: Timer | undefined;
  #guards: Guard[] = [];
  #makingRoom = false;
  #warned = false;
  /** Where chunks are copied through, while that takes no longer than a call. */
  #scratch: Uint8Array;

  constructor(options: PreserverOptions) {
    this.#options = options;
    this.#buffer = options.buffer;
    this.#scratch = new Uint8Array(options.buffer.chunkSizeBytes);
  }

  /** No snapshot needs anything preserved, and nothing is under way. */
  get inactive(): boolean {
    return this.#flights.size === 0 && this.#guards.length === 0 && !this.#buffer.map.newest;
  }

  /** The buffer's disk does not answer. */
  get stuck(): boolean {
    return this.#stuck;
  }

  /** True if nothing keeps the chunk from being overwritten, as far as is known without doing anything. */
  isReady(chunk: number): boolean {
    if (this.#flights.size > 0 && this.#flights.has(chunk)) return false;
    return !this.#buffer.map.needsPreservation(chunk) && !this.#isGuarded(chunk);
  }

  /** True if the chunk may be overwritten now. If not, that is under way, and `onProgress` will be called. */
  ready(chunk: number): boolean {
    if (this.isReady(chunk)) return true;
    if (this.#flights.has(chunk)) return false;
    const flight: Flight = { chunk, startedMs: this.#options.clock.monotonicMs(), state: 'copying' };
    this.#flights.set(chunk, flight);
    if (this.#buffer.failure || this.#stuck) {
      this.#abandon([flight], this.#stuck ? stuckReason : failedReason);
    } else {
      this.#armTimer();
      if (this.#buffer.map.needsPreservation(chunk)) this.#copy(flight);
      else this.#awaitCommit(flight, 'held');
    }
    return !this.#flights.has(chunk);
  }

  /**
   * Puts all records so far on stable storage.
   * @throws UnderstudyError Io when the buffer fails; then all its snapshots are lost
   */
  async commit(): Promise<void> {
    const batch = this.#recorded;
    this.#recorded = [];
    const { losses } = this.#options;
    const version = losses.version;
    const guards = this.#guards;
    try {
      await this.#buffer.commit();
    } catch (error) {
      this.#failed();
      throw error;
    }
    this.#stuck = false;
    this.#endGuards(guards);
    for (const flight of batch) this.#end(flight);
    this.#options.onProgress();
    if (!losses.isEmpty) await losses.clear(version);
  }

  /** Commits once the current stretch of code is over, so that everything that it records shares the commit. */
  commitSoon(): void {
    if (this.#commitScheduled) return;
    this.#commitScheduled = true;
    queueMicrotask(() => {
      this.#commitScheduled = false;
      // A failure has been dealt with: the snapshots are lost.
      this.commit().catch(() => {});
    });
  }

  /** Forgets a snapshot; durable with the next commit. */
  remove(snapshot: Snapshot): void {
    this.#guard(snapshot);
    this.#buffer.remove(snapshot);
    this.commitSoon();
  }

  /** Gives up a snapshot as a whole; durable with the next commit. */
  invalidate(snapshot: Snapshot, reason: string): void {
    if (snapshot.state === 'Invalid') return;
    this.#guard(snapshot);
    this.#buffer.invalidate(snapshot, reason);
    this.#options.log.warn({ snapshot: snapshot.record.name, reason }, 'a snapshot is lost');
    this.#options.onLost(snapshot);
    this.commitSoon();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #copy(flight: Flight): void {
    const { base } = this.#options;
    const { chunkSizeBytes } = this.#buffer;
    const offset = flight.chunk * chunkSizeBytes;
    const length = Math.min(chunkSizeBytes, base.size - offset);
    const content = this.#scratch;
    const completion = base.read(offset, content.subarray(0, length));
    if (completion === undefined) {
      content.fill(0, length);
      this.#store(flight, content);
      return;
    }
    this.#giveAway(content);
    completion.then(
      () => {
        content.fill(0, length);
        this.#store(flight, content);
      },
      (error: unknown) => this.#notRead(flight, error),
    );
  }

  /** What is to be preserved cannot be had; that the overwrite itself may succeed is nothing to stand in the way of. */
  #notRead(flight: Flight, error: unknown): void {
    if (!this.#isCopying(flight)) return;
    for (const snapshot of this.#needing(flight)) {
      this.invalidate(snapshot, `the volume could not be read: ${errorMessage(error)}`);
    }
    this.#awaitCommit(flight, 'held');
  }

  /** Someone else needs this memory for longer. */
  #giveAway(content: Uint8Array): void {
    if (content === this.#scratch) this.#scratch = new Uint8Array(content.byteLength);
  }

  #store(flight: Flight, content: Uint8Array): void {
    if (!this.#isCopying(flight)) return;
    const { map, slots } = this.#buffer;
    if (!map.needsPreservation(flight.chunk)) return this.#startOver([flight]);
    if (map.table.count >= maxEntries) return this.#awaitSlot(flight);
    if (isZero(content)) return this.#record(flight, none, 0);
    const slot = slots.allocate();
    if (slot === undefined) return this.#awaitSlot(flight);
    this.#warnWhenNearlyFull();
    const sum = checksum(content);
    const completion = this.#buffer.writeSlot(slot, content);
    if (completion === undefined) return this.#record(flight, slot, sum);
    this.#giveAway(content);
    completion.then(
      () => this.#stored(flight, slot, sum),
      (error: unknown) => this.#notStored(flight, error),
    );
  }

  #warnWhenNearlyFull(): void {
    const { nearlyFull, available, limit } = this.#buffer.slots;
    if (nearlyFull && !this.#warned) {
      this.#options.log.warn({ freeChunks: available, chunks: limit }, 'the snapshot buffer is nearly full');
    }
    this.#warned = nearlyFull;
  }

  #stored(flight: Flight, slot: number, sum: number): void {
    const wanted = this.#isCopying(flight);
    if (wanted && this.#buffer.map.needsPreservation(flight.chunk)) return this.#record(flight, slot, sum);
    this.#buffer.slots.giveBack(slot);
    if (wanted) this.#startOver([flight]);
  }

  #notStored(flight: Flight, error: unknown): void {
    if (errorCode(error) === 'NoSpace') {
      this.#options.log.warn({}, "the snapshot buffer's disk is full before the buffer is");
      this.#buffer.slots.forbidFresh();
      if (this.#isCopying(flight)) this.#awaitSlot(flight);
    } else {
      this.#buffer.fail(error);
      this.#failed();
    }
  }

  #isCopying(flight: Flight): boolean {
    return flight.state === 'copying' && this.#flights.get(flight.chunk) === flight;
  }

  #record(flight: Flight, slot: number, sum: number): void {
    this.#buffer.preserve(flight.chunk, slot, sum);
    this.#awaitCommit(flight, 'recorded');
  }

  #awaitCommit(flight: Flight, state: 'recorded' | 'held'): void {
    flight.state = state;
    this.#recorded.push(flight);
    this.commitSoon();
  }

  #awaitSlot(flight: Flight): void {
    this.#awaitingSlots.push(flight);
    if (this.#makingRoom) return;
    this.#makingRoom = true;
    queueMicrotask(() => this.#makeRoom());
  }

  /** Frees slots, by giving up snapshots if need be, and lets the chunks that wait for one begin anew. */
  async #makeRoom(): Promise<void> {
    const buffer = this.#buffer;
    while (this.#awaitingSlots.length > 0) {
      const waiting = this.#awaitingSlots;
      this.#awaitingSlots = [];
      buffer.reclaim(waiting.length);
      while (!buffer.reclaim(1)) {
        const victims = buffer.map.victims();
        if (victims.length === 0) break;
        for (const victim of victims) this.invalidate(victim, fullReason);
      }
      // A failure has been dealt with: all snapshots are lost.
      await this.commit().catch(() => {});
      this.#startOver(waiting);
    }
    this.#makingRoom = false;
  }

  /** Whatever waits for these chunks asks again. */
  #startOver(flights: Flight[]): void {
    for (const flight of flights) if (flight.state === 'copying') this.#end(flight);
    queueMicrotask(() => this.#options.onProgress());
  }

  #armTimer(): void {
    if (this.#timer) return;
    const [oldest] = this.#waitingFlights();
    if (!oldest) return;
    const { clock, deadlineMs } = this.#options;
    const dueMs = Math.max(oldest.startedMs + deadlineMs, clock.monotonicMs() + 1);
    this.#checkAt(dueMs, true);
  }

  #checkAt(dueMs: number, secondChance: boolean): void {
    const { clock } = this.#options;
    this.#timer = clock.after(dueMs - clock.monotonicMs(), () => {
      this.#timer = undefined;
      const nowMs = clock.monotonicMs();
      // The thread itself was held up: what has been done meanwhile is still waiting to be noticed.
      if (secondChance && nowMs - dueMs > heldUpMs) this.#checkAt(nowMs + heldUpMs, false);
      else this.#checkDeadline();
    });
  }

  #checkDeadline(): void {
    const { clock, deadlineMs, log, onProgress } = this.#options;
    const flights = this.#waitingFlights();
    if (flights.some((flight) => clock.monotonicMs() - flight.startedMs >= deadlineMs)) {
      log.error({ deadlineMs, chunks: flights.length }, 'the snapshot buffer does not answer; writes go on without it');
      this.#stuck = true;
      this.#abandon(flights, stuckReason);
      onProgress();
    }
    this.#armTimer();
  }

  /** Oldest first. */
  #waitingFlights(): Flight[] {
    return [...this.#flights.values()].filter((flight) => flight.state !== 'abandoned');
  }

  #failed(): void {
    this.#giveUp(this.#buffer.map.kept(), this.#waitingFlights(), failedReason);
    this.#options.onProgress();
  }

  #abandon(flights: Flight[], reason: string): void {
    const victims = new Set<Snapshot>();
    for (const flight of flights) for (const snapshot of this.#needing(flight)) victims.add(snapshot);
    this.#giveUp([...victims], flights, reason);
  }

  /** The snapshots that lose this chunk if it is overwritten now. */
  #needing({ chunk, state }: Flight): Snapshot[] {
    const { map } = this.#buffer;
    if (state !== 'recorded') return map.readersOfVolume(chunk);
    const entry = map.table.newestOf(chunk);
    return entry === none ? [] : map.readersOf(entry);
  }

  /** Loses snapshots without the buffer's help; the chunks go on when that is on record. */
  #giveUp(victims: Snapshot[], flights: Flight[], reason: string): void {
    for (const flight of flights) flight.state = 'abandoned';
    for (const snapshot of victims) this.invalidate(snapshot, reason);
    const guards = this.#guards;
    const lost = new Set([...victims, ...guards].map(({ id }) => id));
    const recorded =
      lost.size > 0 ? this.#options.losses.record([...lost].map((id) => [id, reason] as const)) : undefined;
    const goOn = () => {
      this.#endGuards(guards);
      for (const flight of flights) this.#end(flight);
    };
    if (!recorded) return goOn();
    recorded.then(() => {
      goOn();
      this.#options.onProgress();
    });
  }

  #guard(snapshot: Snapshot): void {
    const { map, chunkSizeBytes } = this.#buffer;
    if (map.newest !== snapshot) return;
    const chunkLimit = Math.ceil(snapshot.sizeBytes / chunkSizeBytes);
    this.#guards = [...this.#guards, { id: snapshot.id, chunkLimit }];
  }

  #isGuarded(chunk: number): boolean {
    if (this.#guards.length === 0) return false;
    const { table } = this.#buffer.map;
    const entry = table.newestOf(chunk);
    const layer = entry === none ? 0 : table.layerOf(entry);
    return this.#guards.some((guard) => chunk < guard.chunkLimit && layer < guard.id);
  }

  #endGuards(ended: readonly Guard[]): void {
    if (ended.length > 0) this.#guards = this.#guards.filter((guard) => !ended.includes(guard));
  }

  #end(flight: Flight): void {
    if (this.#flights.get(flight.chunk) === flight) this.#flights.delete(flight.chunk);
  }
}

const heldUpMs = 50;
const fullReason = 'the snapshot buffer was full: make it larger, or keep fewer snapshots';
const stuckReason = "the snapshot buffer's disk did not answer in time";
const failedReason = "the snapshot buffer's disk failed";
