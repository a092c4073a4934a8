import type { Clock } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { PrepareResult, VolumeView } from '../api/contract/volumes.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Connection } from '../core/connection.ts';
import type { CowDevice } from '../cow/cow-device.ts';
import type {
  Barrier,
  BarrierRecord,
  Hello,
  InSync,
  Refuse,
  ResyncBegin,
  StreamPosition,
  StreamStart,
  Welcome,
} from '../mirror/messages.ts';
import type { MirrorDevice } from '../mirror/mirror-device.ts';
import { protocolVersion } from '../mirror/protocol.ts';
import { type StandbyCopy, StandbySession } from '../mirror/standby-session.ts';
import type { RecordStore, VolumeRecord } from './volume-record.ts';
import type { VolumeStack } from './volume-stack.ts';

/** The internal snapshot of the last consistent image, kept while a resync overwrites it (rule 12). */
const safetySnapshot = 'safety';
/** With the epoch behind it: what a copy held that had been the primary of that epoch. Not internal: people read it. */
const formerSnapshot = 'former-epoch-';
/** A primary that is not heard of for so long, several of its heartbeats, hangs, or is cut off: its connection says nothing. */
const silenceMs = 10_000;
/** How long a resync waits for it. Below the acknowledgement timeout. */
const safetyMs = 3_000;

/**
 * A copy in the role of standby: decides which primary may write to it, and keeps on disk what it is worth.
 *
 * Invariants
 * - At most one session reaches the device; the next one is answered only after the one before has ended and drained,
 *   also if its connection was lost long ago.
 * - An epoch below the record's, or below one it was prepared for, is refused; a higher one is on disk before it is
 *   answered.
 * - Where the stream of an asynchronous mirror was left is known while the process lives, and on disk after an orderly
 *   stop; it is taken from there before anything more is applied. After an unclean end nobody relies on it.
 * - Copies behind this one (a cascade) get what is applied here, in the same order, and are told of a resync before its
 *   first write, and of its end behind its last.
 * - `clean` and `consistent` are false on disk before the first write of a resync, and true again only on the word of
 *   the primary that nothing is missing.
 */
export class StandbyCopyOfVolume implements StandbyCopy {
  readonly #store: RecordStore;
  readonly #cow: CowDevice | undefined;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #onFailed: (message: string) => void;
  readonly device: BlockDevice;
  /** The link that is up. */
  #session: StandbySession | undefined;
  /** The last one that was admitted: what it has not applied yet may still reach the device. */
  #admitted: StandbySession | undefined;
  /** Something that was reported as held is not here, until the next resync. */
  #incomplete = false;
  /** Where the stream of an asynchronous mirror was left, while no session goes on with it. */
  #stream: StreamPosition | undefined;
  readonly #cascade: MirrorDevice | undefined;
  /** The snapshot of a former primary's content that was taken in this process. */
  #keptFormer: string | undefined;
  /** Admissions, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `cascade`: the mirrors of this copy, over its stack. */
  constructor(
    stack: VolumeStack,
    store: RecordStore,
    log: Log,
    clock: Clock,
    onFailed: (message: string) => void,
    cascade?: MirrorDevice,
  ) {
    this.device = cascade ?? stack.top;
    this.#cascade = cascade;
    this.#stream = store.record.standby.stream;
    this.#cow = stack.cow;
    this.#store = store;
    this.#log = log;
    this.#clock = clock;
    this.#onFailed = onFailed;
  }

  /** Takes a connection from a primary over. */
  accept(connection: Connection): void {
    new StandbySession(connection, this, this.#log, this.#clock);
  }

  get link(): NonNullable<VolumeView['link']> {
    const session = this.#session;
    const peer = session?.hello?.mirror;
    const state = !session ? 'Connecting' : session.inSync ? 'InSync' : 'Resyncing';
    const connected = session !== undefined && session.silentMs < silenceMs;
    return { connected, ...(peer === undefined ? {} : { peer }), state };
  }

  async prepare(epoch: number): Promise<PrepareResult> {
    const { record } = this.#store;
    const lowest = Math.max(record.epoch + 1, record.standby.preparedEpoch ?? 0);
    if (epoch < lowest) {
      throw new UnderstudyError(
        'Conflict',
        `volume ${record.volume} can be prepared for epoch ${lowest} or above, the request is for ${epoch}`,
      );
    }
    await this.#updateStandby({ preparedEpoch: epoch });
    await this.#inTurn(() => this.#endSession(`prepared for epoch ${epoch}`));
    await this.device.flush();
    // Nothing is written here any more before the next resync begins: an unclean end takes nothing from this copy.
    await this.#store.update((record) => ({ ...record, running: false }));
    const { clean, consistent, dataEpoch } = this.#store.record.standby;
    return { epoch, clean: clean && !this.#incomplete, consistent: consistent && !this.#incomplete, dataEpoch };
  }

  /** The record has a newer epoch: a link of an older one ends. */
  async refuseBelow(epoch: number): Promise<void> {
    await this.#inTurn(async () => {
      const of = this.#admitted?.hello?.epoch;
      if (of !== undefined && of < epoch) await this.#endSession(`epoch ${epoch} has begun`);
    });
  }

  async stop(): Promise<void> {
    await this.#inTurn(() => this.#endSession('the agent stops'));
    await this.device.flush();
    const stream = this.#incomplete ? undefined : this.#stream;
    if (stream) await this.#updateStandby({ stream });
  }

  // --- StandbyCopy ----------------------------------------------------------------------------------------------

  admit(hello: Hello, session: StandbySession): Promise<Welcome | Refuse> {
    return this.#inTurn(async () => {
      const refusal = refusalOf(this.#store.record, this.device, hello);
      if (refusal) return refusal;
      await this.#endSession('replaced by a newer link');
      if (hello.epoch > this.#store.record.epoch)
        await this.#store.update((record) => ({ ...record, epoch: hello.epoch }));
      this.#cascade?.adoptEpoch(hello.epoch);
      this.#session = session;
      this.#admitted = session;
      const { blank, consistent, clean, dataEpoch, baseId } = this.#store.record.standby;
      return {
        protocol: protocolVersion,
        blank,
        consistent,
        clean,
        dataEpoch,
        ...(baseId === undefined ? {} : { baseId }),
        ...(this.#stream === undefined ? {} : { stream: this.#stream }),
      };
    });
  }

  async beginResync({ baseId, epoch }: ResyncBegin): Promise<void> {
    await this.#keepConsistentImage();
    await this.#keepFormerContent();
    this.#incomplete = false;
    this.#stream = undefined;
    const standby = { blank: false, consistent: false, clean: false, dataEpoch: epoch, baseId, stream: undefined };
    await this.#store.update((record) => {
      const { formerEpoch: _, ...before } = record.standby;
      return { ...record, running: true, standby: { ...before, ...standby } };
    });
    await this.#cascade?.announce('disorder');
  }

  async resumeStream({ baseId, epoch, stream }: StreamStart): Promise<boolean> {
    const { standby } = this.#store.record;
    const here = this.#stream;
    if (here?.id !== stream.id || here.position !== stream.position || standby.baseId !== baseId)
      throw new UnderstudyError('Protocol', 'a stream that does not begin where this copy has left it');
    this.#stream = undefined;
    const changed = { blank: false, clean: false, dataEpoch: epoch, stream: undefined };
    await this.#store.update((record) => ({ ...record, running: true, standby: { ...record.standby, ...changed } }));
    return standby.consistent;
  }

  async becomeInSync({ baseId, epoch, restore }: InSync, clean: boolean): Promise<void> {
    await this.#store.update(({ restore: _, ...record }) => ({
      ...record,
      standby: { ...record.standby, consistent: true, clean, dataEpoch: epoch, baseId },
      ...(restore === undefined ? {} : { restore }),
    }));
    await this.#cascade?.announce('order');
    // Nothing had to be copied: it had written nothing alone.
    if (this.#session?.copiedBytes === 0) await this.#dropFormerContent();
    // Not waited for: the primary's stream goes on behind this.
    this.#dropConsistentImage().catch((error: unknown) => {
      this.#log.warn({ error: errorMessage(error) }, 'the safety snapshot could not be deleted');
    });
  }

  async takeSnapshot(barrier: Barrier): Promise<BarrierRecord> {
    const cascade = this.#cascade;
    const { via: [next, ...further] = [], ...here } = barrier;
    if (next === undefined) {
      const take = () => takeOn(this.#cow, this.#store.record.volume, here);
      return cascade ? cascade.inOrder(take) : take();
    }
    if (!cascade) throw new UnderstudyError('NotFound', `the standby has no mirror ${next} of its own`);
    const beyond: Barrier = further.length > 0 ? { ...here, via: further } : here;
    return cascade.inOrder(() => cascade.barrier(next, beyond));
  }

  async failed(error: unknown): Promise<void> {
    this.#incomplete = true;
    if (errorCode(error) === 'Io') this.#onFailed(errorMessage(error));
    // If not even this can be written down, the process still knows, and after its end the copy is not clean anyway.
    await this.#updateStandby({ clean: false, consistent: false }).catch(() => undefined);
  }

  ended(session: StandbySession): void {
    if (this.#session === session) this.#session = undefined;
  }

  // --------------------------------------------------------------------------------------------------------------

  async #keepConsistentImage(): Promise<void> {
    const { consistent, blank } = this.#store.record.standby;
    if (!this.#cow || !consistent || blank || this.#cow.snapshot(safetySnapshot)) return;
    const taking = this.#cow.takeSnapshot(safetySnapshot, {
      takenAt: new Date(this.#clock.wallTimeMs()).toISOString(),
      internal: true,
    });
    try {
      // Its barrier is passed with the call; a buffer that does not answer must not keep the mirror down (rule 16).
      await Promise.race([taking, this.#deadline()]);
    } catch (error) {
      this.#log.warn(
        { error: errorMessage(error) },
        'no safety snapshot: this copy is inconsistent until the resync is done',
      );
    }
  }

  /** What a former primary may have written alone stays readable, until somebody deletes the snapshot. */
  async #keepFormerContent(): Promise<void> {
    const { formerEpoch } = this.#store.record.standby;
    if (!this.#cow || formerEpoch === undefined) return;
    const name = `${formerSnapshot}${formerEpoch}`;
    if (this.#cow.snapshot(name)) return;
    const takenAt = new Date(this.#clock.wallTimeMs()).toISOString();
    try {
      await Promise.race([this.#cow.takeSnapshot(name, { takenAt, consistency: 'crash' }), this.#deadline()]);
      this.#keptFormer = name;
    } catch (error) {
      this.#log.warn({ snapshot: name, error: errorMessage(error) }, 'what it had written alone cannot be kept');
    }
  }

  async #dropFormerContent(): Promise<void> {
    const name = this.#keptFormer;
    this.#keptFormer = undefined;
    if (name === undefined || !this.#cow?.snapshot(name)) return;
    await this.#cow.deleteSnapshot(name).catch((error: unknown) => {
      this.#log.warn({ snapshot: name, error: errorMessage(error) }, 'a snapshot of nothing could not be deleted');
    });
  }

  #deadline(): Promise<never> {
    return new Promise((_, reject) => {
      const late = () => reject(new UnderstudyError('Timeout', `the snapshot buffer took longer than ${safetyMs} ms`));
      this.#clock.after(safetyMs, late);
    });
  }

  async #dropConsistentImage(): Promise<void> {
    if (this.#cow?.snapshot(safetySnapshot)) await this.#cow.deleteSnapshot(safetySnapshot);
  }

  async #endSession(reason: string): Promise<void> {
    const session = this.#admitted;
    this.#session = undefined;
    this.#admitted = undefined;
    await session?.end(reason);
    this.#stream = session?.stream ?? this.#stream;
  }

  #updateStandby(change: Partial<VolumeRecord['standby']>): Promise<void> {
    return this.#store.update((record) => ({ ...record, standby: { ...record.standby, ...change } }));
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(task);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

/** Takes a snapshot at this point of the write stream, or answers with the one of that name which is there already. */
export async function takeOn(cow: CowDevice | undefined, volume: string, barrier: Barrier): Promise<BarrierRecord> {
  if (!cow) {
    throw new UnderstudyError(
      'Invalid',
      `volume ${volume} has no snapshot buffer on this copy; give it one (buffer: pool, capacity) first`,
    );
  }
  const { snapshot, via: _, ...options } = barrier;
  const present = cow.snapshot(snapshot);
  const made = present?.state === 'Ready' ? present : await cow.takeSnapshot(snapshot, options);
  const { takenAt, consistency, hooks, attempt, sizeBytes } = made;
  const ids = { ...(hooks === undefined ? {} : { hooks }), ...(attempt === undefined ? {} : { attempt }) };
  return { takenAt, consistency, ...ids, size: sizeBytes };
}

/** Why this primary may not write to this copy, or undefined if it may. Pure. */
export function refusalOf(
  record: VolumeRecord,
  device: { size: number; blockSize: number },
  hello: Hello,
): Refuse | undefined {
  const lowest = Math.max(record.epoch, record.standby.preparedEpoch ?? 0);
  const refuse = (reason: Refuse['reason'], message: string): Refuse => ({ reason, message, epoch: lowest });
  if (hello.protocol !== protocolVersion) {
    return refuse(
      'Version',
      `this agent speaks mirror protocol ${protocolVersion}, the primary's ${hello.protocol}; upgrade the older one`,
    );
  }
  if (hello.volume !== record.volume || hello.uid !== record.uid) {
    return refuse(
      'OtherVolume',
      `this copy is of volume ${record.volume} with uid ${record.uid ?? '(none)'}, the primary's uid is ${hello.uid ?? '(none)'}`,
    );
  }
  if (hello.epoch < record.epoch)
    return refuse('StaleEpoch', `this copy is at epoch ${record.epoch}, the primary at the older ${hello.epoch}`);
  // The arbiter decides whether it is promoted; until then the primary must not be fenced for good.
  if (hello.epoch < lowest) {
    return refuse('Prepared', `this copy has been prepared for epoch ${lowest}, the primary is at ${hello.epoch}`);
  }
  if (record.role !== 'standby') {
    return refuse(
      'NotStandby',
      `this copy is primary in epoch ${record.epoch}; two primaries of one epoch must not be`,
    );
  }
  if (record.unusable) return refuse('Failed', `this copy is ${record.unusable.state}: ${record.unusable.reason}`);
  if (hello.blockSize !== device.blockSize) {
    return refuse(
      'OtherVolume',
      `this copy has blocks of ${device.blockSize} bytes, the primary of ${hello.blockSize}`,
    );
  }
  if (hello.size > device.size)
    return refuse('Unready', `this copy has ${device.size} bytes, the primary ${hello.size}; grow it first`);
  return undefined;
}
