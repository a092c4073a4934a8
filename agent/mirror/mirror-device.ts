import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { MirrorSpec, MirrorView } from '../api/contract/volumes.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import { overlaps, type Range } from '../core/range.ts';
import { Acknowledgement } from './acknowledgement.ts';
import type { IntentBitmap } from './intent-bitmap.ts';
import { IntentCheckpoint } from './intent-checkpoint.ts';
import type { Barrier, BarrierRecord } from './messages.ts';
import type { Announcement } from './mirror.ts';
import type { MirrorRecord, OpenedJournal } from './mirror-link-options.ts';
import { MirrorSet, type MirrorSetOptions } from './mirror-set.ts';
import { applyTo, type Operation } from './operation.ts';

export interface MirrorDeviceOptions extends MirrorSetOptions {
  readonly onFenced: (message: string) => void;
  /** The local disk failed for good. */
  readonly onFailed: (message: string) => void;
}

/**
 * Fans every write out to the mirrors of this copy: of a primary to its standbys, of a standby to the copies behind it.
 *
 * Invariants
 * - A write reaches the local device and the standbys in the same order; which order is decided in one place, #issue.
 * - A mark (`inOrder`) takes its place among the writes like one of them.
 * - It is issued only after the write-intent bits of its regions are on stable storage.
 * - It completes when the local device is done and every standby that is needed holds it; FLUSH and FUA when they have
 *   it on stable storage.
 * - Before the first I/O after a start, every standby that was in sync has accepted a resync or is marked outdated.
 * - After `fence`, nothing completes successfully any more.
 */
export class MirrorDevice implements BlockDevice {
  readonly size: number;
  readonly blockSize: number;
  readonly #options: MirrorDeviceOptions;
  readonly #base: BlockDevice;
  readonly #intent: IntentBitmap;
  readonly #volume: string;
  readonly #mirrors: MirrorSet;
  /** Operations and marks that wait for intent bits or for the gate, in order. */
  #waiting: Waiting[] = [];
  #gateClosed = false;
  #gateWaiters: (() => void)[] = [];
  /** Operations that the local device has not finished. */
  readonly #localPending = new Set<Range>();
  #onLocalSettled: (() => void) | undefined;
  #unusable: UnderstudyError | undefined;
  readonly #checkpoint: IntentCheckpoint;

  constructor(options: MirrorDeviceOptions) {
    this.#options = options;
    this.#base = options.base;
    this.#intent = options.intent;
    this.#volume = options.identity.volume;
    this.#mirrors = new MirrorSet(options, {
      localWritePending: (range) => this.#hasLocalPending(range),
      fence: (message) => this.fence(message),
      changed: () => this.#changed(),
    });
    this.size = options.base.size;
    this.blockSize = options.base.blockSize;
    const { intent, clock, log, timing } = options;
    const { coldRegionMs } = timing;
    const mirrors = () => this.#mirrors.list;
    const flush = () => this.flush();
    this.#checkpoint = new IntentCheckpoint({ intent, mirrors, flush, coldRegionMs, clock, log });
  }

  /**
   * Starts the mirrors; the regions of the write-intent bitmap may differ on every standby.
   * `journals`: those of asynchronous mirrors, opened.
   */
  start(
    mirrors: readonly MirrorSpec[],
    records: readonly MirrorRecord[],
    journals: ReadonlyMap<string, OpenedJournal> = new Map(),
  ): void {
    this.#mirrors.fill(mirrors, records, journals);
    this.#gateClosed = this.#mirrors.suspends;
    for (const mirror of this.#mirrors.list) mirror.start();
    this.#checkpoint.start();
  }

  /**
   * Adds, removes and changes mirrors; those that stay as they are keep their links. In a newer epoch, or if `relink` says
   * so, every link is made anew; what was needed before stays needed until the new link, or the arbiter, says otherwise.
   * @throws UnderstudyError Fenced; Unavailable (a standby that is needed cannot be given up now; try again)
   */
  setMirrors(
    mirrors: readonly MirrorSpec[],
    { epoch, relink = false }: { readonly epoch?: number; readonly relink?: boolean } = {},
  ): Promise<void> {
    return this.#mirrors.change(mirrors, epoch, relink);
  }

  /** Instead of `start`, for a copy that was found unusable before. */
  disable(state: 'Fenced' | 'Failed', reason: string): void {
    this.#giveUp(new UnderstudyError(state === 'Fenced' ? 'Fenced' : 'Io', reason));
  }

  get mirrors(): MirrorView[] {
    return this.#mirrors.views;
  }

  /** True while writes wait for a standby. */
  get suspended(): boolean {
    return this.#gateClosed || this.#mirrors.suspends;
  }

  /** Takes a snapshot on a mirror's standby at this point of the write stream. @throws NotFound, NotReady, and the standby's reason */
  async barrier(mirror: string, barrier: Barrier): Promise<BarrierRecord> {
    return this.#mirrors.get(mirror).barrier(barrier);
  }

  /**
   * Begins to compare the copies of a synchronous mirror, or of all of them, under live writes; see their views.
   * @throws UnderstudyError NotFound, Invalid (there is none), NotReady (not in sync), Conflict (under way already)
   */
  verify(request: VerificationRequest): void {
    const links = this.#mirrors.synchronous(request.mirror);
    if (links.length === 0)
      throw new UnderstudyError('Invalid', `volume ${this.#volume} has no synchronous mirror to verify`);
    for (const link of links) link.verify(request);
  }

  /** @throws UnderstudyError NotFound */
  stopVerification(mirror: string | undefined): void {
    for (const link of this.#mirrors.synchronous(mirror)) link.stopVerification();
  }

  /** A standby has learnt of a newer epoch: the copies behind it do as well. */
  adoptEpoch(epoch: number): void {
    this.#mirrors.adoptEpoch(epoch);
  }

  /** Calls back behind every operation that came before, and in front of all that come after. */
  inOrder<Result>(run: () => Promise<Result>): Promise<Result> {
    if (this.#waiting.length === 0) return run();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ run: () => void run().then(resolve, reject), reject });
    });
  }

  /** From here on the source of the mirrors is the image of no moment, or is again. */
  announce(what: Announcement): Promise<void> {
    return this.inOrder(async () => {
      this.#mirrors.announce(what);
    });
  }

  /** From now on every operation fails: a newer epoch exists. */
  fence(message: string): void {
    if (this.#unusable) return;
    this.#giveUp(new UnderstudyError('Fenced', message));
    this.#options.onFenced(message);
  }

  // --- BlockDevice ----------------------------------------------------------------------------------------------

  read(offset: number, target: Uint8Array): Completion {
    if (this.#unusable) throw this.#unusable;
    if (this.#gateClosed) return this.#gate().then(() => this.read(offset, target));
    return this.#base.read(offset, target);
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    return this.#submit({ kind: 'write', offset, length: data.length, data, fua: options?.fua === true });
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    const keepAllocated = options?.keepAllocated === true;
    return this.#submit({ kind: 'zero', offset, length, keepAllocated, fua: options?.fua === true });
  }

  trim(offset: number, length: number): Completion {
    return this.#submit({ kind: 'trim', offset, length, keepAllocated: false, fua: false });
  }

  flush(): Completion {
    if (this.#unusable) throw this.#unusable;
    if (this.#gateClosed) return this.#gate().then(() => this.flush());
    let acknowledgement: Acknowledgement | undefined;
    for (const mirror of this.#mirrors.list) {
      if (mirror.needed) acknowledgement ??= new Acknowledgement();
      mirror.flush(mirror.needed ? acknowledgement : undefined);
    }
    return this.#alongside(
      acknowledgement,
      this.#guard(() => this.#base.flush()),
    );
  }

  extents(offset: number, length: number): Extent[] {
    return this.#base.extents(offset, length);
  }

  async close(): Promise<void> {
    await this.detach();
    await this.#base.close();
  }

  /**
   * Closes this layer alone: what is below stays open, for whoever reads its snapshots. Everything here fails from now on,
   * and when it resolves nothing of it reaches the device any more.
   */
  async detach(): Promise<void> {
    this.#checkpoint.stop();
    if (!this.#unusable) await this.#checkpoint.settle(this.#options.timing.acknowledgementTimeoutMs / 2);
    const mirrors = this.#mirrors.list;
    this.#giveUp(new UnderstudyError('Closed', `volume ${this.#volume} has been closed`));
    for (const mirror of mirrors) await mirror.stop();
    await this.#localSettled();
    await this.#intent.flush().catch(() => undefined);
    await this.#intent.close();
  }

  // --- Writes ---------------------------------------------------------------------------------------------------

  #submit(operation: Operation): Completion {
    if (this.#unusable) throw this.#unusable;
    if (this.#mirrors.list.length === 0) return this.#issue(operation);
    const mayGo =
      !this.#gateClosed && this.#waiting.length === 0 && this.#intent.touch(operation.offset, operation.length);
    return mayGo ? this.#issue(operation) : this.#enqueue(operation);
  }

  #enqueue(operation: Operation): Promise<void> {
    const issued = Promise.withResolvers<void>();
    const run = () => {
      const completion = this.#issue(operation);
      if (completion) completion.then(issued.resolve, issued.reject);
      else issued.resolve();
    };
    this.#waiting.push({ operation, run, reject: issued.reject });
    this.#prepare(operation);
    return issued.promise;
  }

  #prepare({ offset, length }: Operation): void {
    this.#intent.prepare(offset, length).then(
      () => this.#pump(),
      (error: unknown) => this.#failed(errorMessage(error)),
    );
  }

  /** Issues what waits, in order, as far as the gate and the intent bits allow. */
  #pump(): void {
    while (!this.#gateClosed) {
      const head = this.#waiting[0];
      if (!head) return;
      const { operation } = head;
      // A checkpoint may have cleared the bit again while the operation waited.
      if (operation && !this.#intent.touch(operation.offset, operation.length)) return this.#prepare(operation);
      this.#waiting.shift();
      try {
        head.run();
      } catch (error) {
        head.reject(error);
      }
    }
  }

  /**
   * Gives the operation to every standby and to the local device. The one place that decides their order: the standbys
   * first, so that they work while the local device does.
   */
  #issue(operation: Operation): Completion {
    const acknowledgement = this.#forward(operation);
    let local: Completion;
    try {
      local = this.#guard(() => applyTo(this.#base, operation), operation);
    } catch (error) {
      // The client gets this answer; what becomes of the write at the standbys is of no interest any more.
      acknowledgement?.promise.catch(() => undefined);
      throw error;
    }
    if (local) this.#track(operation, local);
    return this.#alongside(acknowledgement, local);
  }

  /** @returns what arrives when every standby that is needed holds the operation; undefined if none is needed */
  #forward(operation: Operation): Acknowledgement | undefined {
    let acknowledgement: Acknowledgement | undefined;
    for (const mirror of this.#mirrors.list) {
      const { needed } = mirror;
      if (needed) acknowledgement ??= new Acknowledgement();
      if (operation.kind === 'write') {
        mirror.forwardWrite(operation.offset, operation.data, operation.fua, needed ? acknowledgement : undefined);
      } else {
        const keepAllocated = operation.kind === 'zero' && operation.keepAllocated;
        mirror.forwardZeroes(operation, keepAllocated, operation.fua, needed ? acknowledgement : undefined);
      }
    }
    return acknowledgement;
  }

  /** Runs an operation of the local device and takes note of its failure. */
  #guard(operate: () => Completion, range?: Range): Completion {
    try {
      return operate()?.catch((error: unknown) => this.#localFailure(error, range));
    } catch (error) {
      return this.#localFailure(error, range);
    }
  }

  /** After a failed write the range may hold anything, while the standbys hold the new content: both are told apart. */
  #localFailure(error: unknown, range: Range | undefined): never {
    if (range) for (const mirror of this.#mirrors.list) mirror.differs(range);
    if (errorCode(error) === 'Io') this.#failed(errorMessage(error));
    throw error;
  }

  #track({ offset, length }: Range, local: Promise<void>): void {
    const range = { offset, length };
    this.#localPending.add(range);
    const done = () => {
      this.#localPending.delete(range);
      if (this.#localPending.size === 0) this.#onLocalSettled?.();
    };
    local.then(done, done);
  }

  async #localSettled(): Promise<void> {
    if (this.#localPending.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#onLocalSettled = resolve;
    });
  }

  #hasLocalPending(range: Range): boolean {
    for (const pending of this.#localPending) if (overlaps(pending, range)) return true;
    return false;
  }

  #alongside(acknowledgement: Acknowledgement | undefined, local: Completion): Completion {
    if (!acknowledgement) return local;
    if (local) {
      acknowledgement.expect();
      local.then(
        () => acknowledgement.arrived(),
        (error: unknown) => acknowledgement.fail(error),
      );
    }
    return acknowledgement.promise;
  }

  // --- The gate, fencing, failure -------------------------------------------------------------------------------

  #gate(): Promise<void> {
    return new Promise((resolve) => this.#gateWaiters.push(resolve));
  }

  /** A standby came, went, or is no longer needed. */
  #changed(): void {
    if (!this.#gateClosed || this.#mirrors.suspends) return;
    this.#openGate();
  }

  #openGate(): void {
    this.#gateClosed = false;
    const waiters = this.#gateWaiters;
    this.#gateWaiters = [];
    for (const resolve of waiters) resolve();
    this.#pump();
  }

  #failed(message: string): void {
    if (this.#unusable) return;
    this.#giveUp(new UnderstudyError('Io', `volume ${this.#volume} failed: ${message}`));
    this.#options.onFailed(message);
  }

  /**
   * Every operation fails from now on, those that wait as well. The links end for good: a copy that failed or was fenced is
   * no source for a standby, and what the standby has is what counts.
   */
  #giveUp(error: UnderstudyError): void {
    this.#unusable = error;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { reject } of waiting) reject(error);
    for (const mirror of this.#mirrors.list) {
      mirror.abandon(error);
      void mirror.stop();
    }
    this.#openGate();
  }
}

interface Waiting {
  /** Undefined: a mark. */
  readonly operation?: Operation;
  run(): void;
  reject(error: unknown): void;
}
