import type { Clock, Timer } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { MirrorView } from '../api/contract/volumes.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import { overlaps, type Range } from '../core/range.ts';
import { Acknowledgement } from './acknowledgement.ts';
import type { Arbiter } from './arbiter.ts';
import type { IntentBitmap } from './intent-bitmap.ts';
import type { Barrier, BarrierRecord } from './messages.ts';
import { MirrorLink } from './mirror-link.ts';
import type { Connector, MirrorRecord, MirrorTiming, VolumeIdentity } from './mirror-link-options.ts';
import { RateLimit } from './rate-limit.ts';

export interface MirrorSpec {
  readonly name: string;
  readonly address: string;
  readonly mode: 'synchronous' | 'asynchronous';
  /** Instead of the limit for all mirrors. */
  readonly resyncBytesPerSecond?: number | undefined;
}

export interface MirrorDeviceOptions {
  readonly base: BlockDevice;
  readonly intent: IntentBitmap;
  readonly identity: VolumeIdentity;
  readonly arbiter: Arbiter;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  readonly newBaseId: () => string;
  /** The limit on the resyncs of each mirror, unless the mirror has one of its own. */
  readonly resyncBytesPerSecond?: number | undefined;
  /** Writes the records of all mirrors down; durable when it resolves. */
  readonly persist: (records: readonly MirrorRecord[]) => Promise<void>;
  readonly onFenced: (message: string) => void;
  /** The local disk failed for good. */
  readonly onFailed: (message: string) => void;
}

type Operation =
  | {
      readonly kind: 'write';
      readonly offset: number;
      readonly length: number;
      readonly data: Uint8Array;
      readonly fua: boolean;
    }
  | {
      readonly kind: 'zero' | 'trim';
      readonly offset: number;
      readonly length: number;
      readonly keepAllocated: boolean;
      readonly fua: boolean;
    };

const checkpointMs = 2_000;

/**
 * Fans every write of a primary out to its standbys.
 *
 * Invariants
 * - A write reaches the local device and the standbys in the same order; which order is decided in one place, #issue.
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
  #identity: VolumeIdentity;
  readonly #links = new Map<string, MirrorLink>();
  #linkList: readonly MirrorLink[] = [];
  /** Operations that wait for their intent bits or for the gate, in order. */
  #waiting: { operation: Operation; resolve: (completion: Completion) => void; reject: (error: unknown) => void }[] =
    [];
  #gateClosed = false;
  #gateWaiters: (() => void)[] = [];
  /** Operations that the local device has not finished. */
  readonly #localPending = new Set<Range>();
  #unusable: UnderstudyError | undefined;
  #checkpoint: Timer | undefined;
  #checkpointing = false;

  constructor(options: MirrorDeviceOptions) {
    this.#options = options;
    this.#base = options.base;
    this.#intent = options.intent;
    this.#identity = options.identity;
    this.size = options.base.size;
    this.blockSize = options.base.blockSize;
  }

  /** Starts the mirrors. `afterCrash`: the regions of the write-intent bitmap may differ on every standby. */
  start(mirrors: readonly MirrorSpec[], records: readonly MirrorRecord[]): void {
    const suspect = [...this.#intent.ranges()];
    for (const spec of mirrors)
      this.#addLink(
        spec,
        records.find((record) => record.name === spec.name),
        suspect,
      );
    this.#intent.touchAll();
    this.#gateClosed = this.#linkList.some((link) => link.suspends);
    for (const link of this.#linkList) link.start();
    this.#scheduleCheckpoint();
  }

  /**
   * Adds, removes and re-addresses mirrors; those that stay as they are keep their links. In a newer epoch, or if
   * `relink` says so, every link is made anew; what was needed before stays needed until the new link, or the arbiter, says
   * otherwise.
   * @throws UnderstudyError Fenced; Unavailable (a standby that is needed cannot be given up now; try again)
   */
  async setMirrors(
    mirrors: readonly MirrorSpec[],
    { epoch = this.#identity.epoch, relink = false }: { readonly epoch?: number; readonly relink?: boolean } = {},
  ): Promise<void> {
    this.#identity = { ...this.#identity, epoch };
    const wanted = new Map(mirrors.map((spec) => [spec.name, spec]));
    const replaced = new Map<string, MirrorLink>();
    for (const link of this.#linkList) {
      const spec = wanted.get(link.name);
      const stays = spec && spec.address === link.address && spec.mode === link.mode && link.epoch === epoch;
      if (stays && !relink) {
        link.limitResync(spec.resyncBytesPerSecond ?? this.#options.resyncBytesPerSecond);
        continue;
      }
      if (spec) replaced.set(link.name, link);
      else await link.release(epoch);
      if (spec) continue;
      this.#links.delete(link.name);
      this.#linkList = [...this.#links.values()];
      await link.stop();
    }
    for (const spec of mirrors) {
      const before = replaced.get(spec.name);
      if (this.#links.has(spec.name) && !before) continue;
      // A link that is made anew has no record of what its standby missed while it was down: the bitmap has it.
      const link = this.#addLink(spec, before?.record, [...this.#intent.ranges()]);
      before?.handOver(link);
      await before?.stop();
      link.start();
    }
    await this.#persist();
    this.#changed();
  }

  /** Instead of `start`, for a copy that was found unusable before. */
  disable(state: 'Fenced' | 'Failed', reason: string): void {
    this.#giveUp(new UnderstudyError(state === 'Fenced' ? 'Fenced' : 'Io', reason));
  }

  get mirrors(): MirrorView[] {
    return this.#linkList.map((link) => link.view());
  }

  /** True while writes wait for a standby. */
  get suspended(): boolean {
    return this.#gateClosed || this.#linkList.some((link) => link.suspends);
  }

  /** Takes a snapshot on a mirror's standby at this point of the write stream. @throws NotFound, NotReady, and the standby's reason */
  async barrier(mirror: string, barrier: Barrier): Promise<BarrierRecord> {
    return this.#link(mirror).barrier(barrier);
  }

  /**
   * Begins to compare the copies of a mirror, or of all of them, under live writes; see their views.
   * @throws UnderstudyError NotFound, Invalid (there is none), NotReady (not in sync), Conflict (under way already)
   */
  verify(request: VerificationRequest): void {
    const links = this.#linksFor(request.mirror);
    if (links.length === 0) throw new UnderstudyError('Invalid', `volume ${this.#identity.volume} has no mirrors`);
    for (const link of links) link.verify(request);
  }

  /** @throws UnderstudyError NotFound */
  stopVerification(mirror: string | undefined): void {
    for (const link of this.#linksFor(mirror)) link.stopVerification();
  }

  #linksFor(mirror: string | undefined): readonly MirrorLink[] {
    return mirror === undefined ? this.#linkList : [this.#link(mirror)];
  }

  #link(mirror: string): MirrorLink {
    const link = this.#links.get(mirror);
    if (link) return link;
    throw new UnderstudyError('NotFound', `volume ${this.#identity.volume} has no mirror ${mirror}`);
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
    for (const link of this.#linkList) {
      if (!link.needed) continue;
      acknowledgement ??= new Acknowledgement();
      link.flush(acknowledgement);
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
    this.#checkpoint?.cancel();
    await this.#settleInTime();
    const links = this.#linkList;
    this.#giveUp(new UnderstudyError('Closed', `volume ${this.#identity.volume} has been closed`));
    for (const link of links) await link.stop();
    await this.#intent.flush().catch(() => undefined);
    await this.#intent.close();
    await this.#base.close();
  }

  // --- Writes ---------------------------------------------------------------------------------------------------

  #submit(operation: Operation): Completion {
    if (this.#unusable) throw this.#unusable;
    if (this.#linkList.length === 0) return this.#issue(operation);
    const mayGo =
      !this.#gateClosed && this.#waiting.length === 0 && this.#intent.touch(operation.offset, operation.length);
    return mayGo ? this.#issue(operation) : this.#enqueue(operation);
  }

  #enqueue(operation: Operation): Promise<void> {
    const issued = new Promise<Completion>((resolve, reject) => this.#waiting.push({ operation, resolve, reject }));
    this.#prepare(operation);
    return issued as Promise<void>;
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
      // A checkpoint may have cleared the bit again while the operation waited.
      if (!this.#intent.touch(head.operation.offset, head.operation.length)) return this.#prepare(head.operation);
      this.#waiting.shift();
      try {
        head.resolve(this.#issue(head.operation));
      } catch (error) {
        head.reject(error);
      }
    }
  }

  /** Gives the operation to the local device and to every standby. The one place that decides their order. */
  #issue(operation: Operation): Completion {
    const local = this.#guard(() => this.#applyLocally(operation), operation);
    let acknowledgement: Acknowledgement | undefined;
    for (const link of this.#linkList) {
      const needed = link.needed;
      if (needed) acknowledgement ??= new Acknowledgement();
      if (operation.kind === 'write') {
        link.forwardWrite(operation.offset, operation.data, operation.fua, needed ? acknowledgement : undefined);
      } else {
        const keepAllocated = operation.kind === 'zero' && operation.keepAllocated;
        link.forwardZeroes(operation, keepAllocated, operation.fua, needed ? acknowledgement : undefined);
      }
    }
    if (local) this.#track(operation, local);
    return this.#alongside(acknowledgement, local);
  }

  #applyLocally(operation: Operation): Completion {
    const { offset, length } = operation;
    switch (operation.kind) {
      case 'write':
        return this.#base.write(offset, operation.data, operation.fua ? { fua: true } : undefined);
      case 'zero':
        return this.#base.writeZeroes(offset, length, operation);
      case 'trim':
        return this.#base.trim(offset, length);
    }
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
    if (range) for (const link of this.#linkList) link.differs(range);
    if (errorCode(error) === 'Io') this.#failed(errorMessage(error));
    throw error;
  }

  #track({ offset, length }: Range, local: Promise<void>): void {
    const range = { offset, length };
    this.#localPending.add(range);
    const done = () => void this.#localPending.delete(range);
    local.then(done, done);
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
    if (!this.#gateClosed || this.#linkList.some((link) => link.suspends)) return;
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
    this.#giveUp(new UnderstudyError('Io', `volume ${this.#identity.volume} failed: ${message}`));
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
    for (const link of this.#linkList) {
      link.abandon(error);
      void link.stop();
    }
    this.#openGate();
  }

  // --- Links and checkpoints ------------------------------------------------------------------------------------

  #addLink(spec: MirrorSpec, record: MirrorRecord | undefined, suspect: readonly Range[]): MirrorLink {
    const { connect, arbiter, clock, timing, log, newBaseId } = this.#options;
    const link = new MirrorLink({
      identity: this.#identity,
      address: spec.address,
      mode: spec.mode,
      record: record ?? { name: spec.name, scanned: false, needed: false },
      base: this.#base,
      suspect,
      limit: new RateLimit(clock, spec.resyncBytesPerSecond ?? this.#options.resyncBytesPerSecond),
      connect,
      arbiter,
      clock,
      timing,
      log,
      newBaseId,
      localWritePending: (range) => this.#hasLocalPending(range),
      persist: () => this.#persist(),
      markSuspect: (ranges) => this.#markSuspect(ranges),
      onFenced: (message) => this.fence(message),
      onChange: () => this.#changed(),
    });
    this.#links.set(spec.name, link);
    this.#linkList = [...this.#links.values()];
    return link;
  }

  #hasLocalPending(range: Range): boolean {
    for (const pending of this.#localPending) if (overlaps(pending, range)) return true;
    return false;
  }

  #persist(): Promise<void> {
    return this.#options.persist(this.#linkList.map((link) => ({ ...link.record })));
  }

  async #markSuspect(ranges: readonly Range[]): Promise<void> {
    await Promise.all(ranges.map(({ offset, length }) => this.#intent.prepare(offset, length)));
    for (const { offset, length } of ranges) this.#intent.touch(offset, length);
  }

  #scheduleCheckpoint(): void {
    this.#checkpoint = this.#options.clock.after(checkpointMs, () => {
      void this.#runCheckpoint().finally(() => {
        if (!this.#unusable) this.#scheduleCheckpoint();
      });
    });
  }

  /** Syncs every copy and clears the intent bits of regions that have been quiet since (rule 8). */
  async #runCheckpoint(): Promise<void> {
    const settled = this.#linkList.length > 0 && this.#linkList.every((link) => link.inSync);
    if (this.#checkpointing || !settled || !this.#intent.checkpointWanted) return;
    this.#checkpointing = true;
    this.#intent.beginCheckpoint();
    try {
      await this.flush();
      // A standby that was lost meanwhile and given up did not sync.
      if (this.#linkList.every((link) => link.inSync)) this.#intent.endCheckpoint();
      else this.#intent.abandonCheckpoint();
    } catch (error) {
      this.#intent.abandonCheckpoint();
      this.#options.log.warn({ error: errorMessage(error) }, 'checkpoint of the write-intent bitmap failed');
    } finally {
      this.#checkpointing = false;
    }
  }

  /** A standby that is lost just now must not keep a stop waiting. */
  #settleInTime(): Promise<void> {
    return new Promise((resolve) => {
      const { clock, timing } = this.#options;
      const timeout = clock.after(timing.acknowledgementTimeoutMs / 2, resolve);
      void this.#settle().finally(() => {
        timeout.cancel();
        resolve();
      });
    });
  }

  /** For an orderly stop: everything is on stable storage everywhere, and the bitmap says so. */
  async #settle(): Promise<void> {
    const settled = this.#linkList.every((link) => link.inSync);
    if (this.#unusable || !settled || this.#linkList.length === 0) return;
    this.#intent.touchAll();
    await this.#runCheckpoint();
  }
}
