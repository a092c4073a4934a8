import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { HoldRequest } from '../api/contract/filling.ts';
import type { GroupHoldRequest, GroupHoldView } from '../api/contract/groups.ts';
import type { RestoreRequest } from '../api/contract/restore.ts';
import type { SnapshotRequest } from '../api/contract/snapshots.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { PrepareResult, SnapshotView, VolumeSpec, VolumeView } from '../api/contract/volumes.ts';
import { KeyedLock } from '../core/keyed-lock.ts';
import type { Arbiter } from '../mirror/arbiter.ts';
import { defaultTiming, type MirrorTiming } from '../mirror/mirror-link-options.ts';
import { DiskDirectory } from '../store/disk-directory.ts';
import type { LinkTls } from './engine-calls.ts';
import { MirrorListener } from './mirror-listener.ts';
import type { LinkPurpose } from './mirror-preamble.ts';
import { type NodeAttachments, noAttachments } from './node-attachments.ts';
import type { VolumeStatistics } from './operation-statistics.ts';
import { type Pool, Pools } from './pools.ts';
import { PutOffGrowth } from './put-off-growth.ts';
import { SlotChanges } from './slot-changes.ts';
import { type Quiescer, SnapshotRequests } from './snapshot-requests.ts';
import {
  noSnapshotUsers,
  refuseWhileUsed,
  type SnapshotUsers,
  withSnapshotUsers,
  withUsers,
} from './snapshot-users.ts';
import { checkUnused } from './unused.ts';
import { planChange } from './volume-change.ts';
import { loadRecord, saveRecord, type VolumeRecord } from './volume-record.ts';
import type { VolumeService } from './volume-service.ts';
import { type SlotOptions, VolumeSlot } from './volume-slot.ts';

export interface VolumeManagerOptions {
  readonly pools: readonly Pool[];
  readonly nbdDirectory: string;
  /** Address of the mirror listener. */
  readonly mirrorListen: string;
  /** Undefined: mirror links in clear text, for loopback only. */
  readonly tls: LinkTls | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly timing?: MirrorTiming;
  /** Who decides, for volumes that have a record there, what happens when a standby is lost. */
  readonly arbiter?: Arbiter | undefined;
  /** The limit on the resyncs of mirrors that have none of their own. */
  readonly resyncBytesPerSecond?: number | undefined;
}

/** What attaching a volume needs to know. */
export interface ExportLocation {
  readonly socket: string;
  readonly exportName: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Of a live volume: which primary's writes an attachment carries. */
  readonly binding?: LiveBinding;
}

export interface LiveBinding {
  readonly uid: string | undefined;
  readonly epoch: number;
}

/**
 * The volumes of a node. It decides nothing about data: it makes folders and threads, carries requests to the volume's
 * thread, and lets one change of a volume happen at a time.
 */
export class VolumeManager implements VolumeService {
  readonly #pools: Pools;
  readonly #slots = new Map<string, VolumeSlot>();
  readonly #changes = new KeyedLock();
  readonly #snapshots: SnapshotRequests;
  readonly #slotOptions: SlotOptions;
  readonly #slotChanges: SlotChanges;
  readonly #log: Log;
  /** From where a standby's writes came last. */
  readonly #primaries = new Map<string, string>();
  readonly #putOff = new PutOffGrowth();
  #users = noSnapshotUsers;
  #attachments = noAttachments;
  #listener: MirrorListener | undefined;
  #stopping = false;
  /** Resolves when every volume that was found at the start is running or has failed. */
  recovered: Promise<void> = Promise.resolve();

  private constructor(options: VolumeManagerOptions) {
    const { pools, nbdDirectory, tls, timing = defaultTiming, arbiter, resyncBytesPerSecond, clock, log } = options;
    this.#pools = new Pools(pools);
    this.#log = log;
    this.#snapshots = new SnapshotRequests(clock);
    this.#slotChanges = new SlotChanges({
      pools: this.#pools,
      clock,
      log,
      users: () => this.#users,
      attachments: () => this.#attachments,
    });
    const revive = (slot: VolumeSlot) => void this.#revive(slot);
    this.#slotOptions = {
      pools: this.#pools,
      nbdDirectory,
      tls,
      timing,
      arbiter,
      resyncBytesPerSecond,
      clock,
      log,
      revive,
    };
  }

  /**
   * Opens the pools, finds the volumes in them, and listens for mirrors. Resolves when every volume is known; they are
   * started behind it, see `recovered`. A volume that cannot be started is there with state Failed, and takes no other
   * with it.
   */
  static async start(options: VolumeManagerOptions): Promise<VolumeManager> {
    const manager = new VolumeManager(options);
    await manager.#pools.open();
    await DiskDirectory.open(options.nbdDirectory);
    const found = await manager.#find();
    manager.recovered = Promise.all(found.map((slot) => manager.#recover(slot))).then(() => undefined);
    manager.#listener = await MirrorListener.listen(
      options.mirrorListen,
      (volume, descriptor, from, purpose) => manager.#acceptMirror(volume, descriptor, from, purpose),
      options.log.child({ component: 'mirror-listener' }),
    );
    return manager;
  }

  get mirrorPort(): number {
    return this.#listener?.port ?? 0;
  }

  /** Snapshots that ask for it freeze what is mounted through this from now on. */
  useQuiescer(quiescer: Quiescer): void {
    this.#snapshots.quiescer = quiescer;
  }

  /** Snapshots that these use are not deleted, and their views say so. */
  useSnapshotUsers(users: SnapshotUsers): void {
    this.#users = users;
  }

  /** What is attached here is taken away, or asked about, through this from now on. */
  useAttachments(attachments: NodeAttachments): void {
    this.#attachments = attachments;
  }

  /** The address from which the primary of a standby here last linked to it, for people. */
  primaryOf(volume: string): string | undefined {
    return this.#primaries.get(volume);
  }

  /** Mirror links that are made from now on use these certificates; those that are up stay up. */
  async renewTls(tls: LinkTls): Promise<void> {
    this.#slotOptions.tls = tls;
    const running = [...this.#slots.values()].filter((slot) => slot.running);
    await Promise.allSettled(running.map((slot) => slot.host.call('setTls', tls)));
  }

  /** Stops every volume in order. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#listener?.close();
    await this.recovered;
    const stopped = await Promise.allSettled([...this.#slots.values()].map((slot) => slot.stop()));
    for (const outcome of stopped) {
      if (outcome.status === 'rejected')
        this.#log.error({ error: errorMessage(outcome.reason) }, 'a volume did not stop in order');
    }
  }

  // --- VolumeService --------------------------------------------------------------------------------------------

  async list(): Promise<VolumeView[]> {
    const views = await Promise.all([...this.#slots.values()].map((slot) => slot.viewOrLess()));
    return views.map((view) => withSnapshotUsers(this.#users, view));
  }

  /** What the threads of the volumes that run have counted, by volume. */
  async statistics(): Promise<ReadonlyMap<string, VolumeStatistics>> {
    const running = [...this.#slots.values()].filter((slot) => slot.running);
    const asked = running.map(async (slot) => [slot.volume, await slot.answer(slot.host.call('statistics'))] as const);
    const answers = await Promise.allSettled(asked);
    // One that ended in between, or does not answer, has nothing to tell.
    return new Map(answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : [])));
  }

  async get(volume: string): Promise<VolumeView> {
    return withSnapshotUsers(this.#users, await this.#slot(volume).view());
  }

  put(volume: string, spec: VolumeSpec): Promise<{ created: boolean; view: VolumeView }> {
    return this.#changes.run(volume, async () => {
      const blank = this.#pools.startsBlank(spec.pool);
      if (spec.buffer) this.#pools.checkBufferPool(spec.buffer.pool);
      for (const { journal } of spec.mirrors) if (journal?.pool !== undefined) this.#pools.get(journal.pool);
      const slot = this.#slots.get(volume);
      const before = await slot?.record();
      const change = planChange(volume, before, spec, blank);
      if (!slot) return { created: true, view: await this.#create(change.record) };
      const grows = spec.role === before?.role && spec.size > before.size;
      await this.#putOff.noting(volume, grows ? spec : undefined, () => this.#slotChanges.apply(slot, change, spec));
      return { created: false, view: await slot.view() };
    });
  }

  delete(volume: string): Promise<void> {
    return this.#changes.run(volume, async () => {
      const slot = this.#slots.get(volume);
      if (!slot) return;
      await checkUnused(slot, 'deleted', { users: this.#users });
      const { pool } = await slot.stop();
      this.#slots.delete(volume);
      this.#putOff.forget(volume);
      // The data goes last: while it is there, a crash leaves a volume that can be deleted again.
      await this.#pools.removeBeside(pool, volume);
      await this.#pools.remove(pool, volume);
    });
  }

  prepare(volume: string, epoch: number): Promise<PrepareResult> {
    return this.#changes.run(volume, async () => this.#slot(volume).host.call('prepare', epoch));
  }

  verify(volume: string, request: VerificationRequest): Promise<VolumeView> {
    return this.#changes.run(volume, async () => {
      const slot = this.#slot(volume);
      await slot.host.call('verify', request);
      return slot.view();
    });
  }

  async stopVerification(volume: string, mirror: string | undefined): Promise<void> {
    await this.#slot(volume).host.call('stopVerification', mirror);
  }

  restore(volume: string, request: RestoreRequest): Promise<VolumeView> {
    return this.#changes.run(volume, async () => {
      const slot = this.#slot(volume);
      await slot.host.call('beginRestore', request);
      return withSnapshotUsers(this.#users, await slot.view());
    });
  }

  giveUpRestore(volume: string): Promise<void> {
    return this.#changes.run(volume, () => this.#slot(volume).host.call('giveUpRestore'));
  }

  async holdAcknowledgements(
    volume: string,
    attempt: string,
    { deadlineMs }: GroupHoldRequest,
  ): Promise<GroupHoldView> {
    return this.#slot(volume).host.call('holdAcknowledgements', attempt, deadlineMs);
  }

  async releaseAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView> {
    return this.#slot(volume).host.call('releaseAcknowledgements', attempt);
  }

  async putSnapshot(volume: string, snapshot: string, request: SnapshotRequest): Promise<SnapshotView> {
    const { host } = this.#slot(volume);
    const present = request.mirror === undefined ? await host.call('snapshot', snapshot) : undefined;
    if (present && present.state !== 'Waiting') return this.#snapshots.withMeasurements(volume, present);
    return this.#snapshots.put(volume, snapshot, request, host);
  }

  async getSnapshot(volume: string, snapshot: string): Promise<SnapshotView> {
    const held = await this.#slot(volume).host.call('snapshot', snapshot);
    const view = held ?? this.#snapshots.get(volume, snapshot);
    if (view) return withUsers(this.#users, volume, view);
    throw new UnderstudyError('NotFound', `volume ${volume} has no snapshot ${snapshot} on this copy`);
  }

  holdSnapshot(volume: string, snapshot: string, hold: string, request: HoldRequest): Promise<SnapshotView> {
    return this.#changes.run(volume, async () => {
      await this.#slot(volume).host.call('hold', snapshot, hold, request);
      return this.getSnapshot(volume, snapshot);
    });
  }

  async releaseSnapshot(volume: string, snapshot: string, hold: string): Promise<void> {
    const slot = this.#slots.get(volume);
    if (slot) await this.#changes.run(volume, () => slot.host.call('releaseHold', snapshot, hold));
  }

  async deleteSnapshot(volume: string, snapshot: string): Promise<void> {
    const slot = this.#slots.get(volume);
    if (!slot) return;
    refuseWhileUsed(this.#users, volume, snapshot);
    await slot.host.call('deleteSnapshot', snapshot);
    this.#snapshots.forget(volume, snapshot);
  }

  // --- What attaching needs -------------------------------------------------------------------------------------

  /** Before a volume is attached that was not: it grows now if it was told to while it could not. */
  async catchUp(volume: string): Promise<void> {
    const spec = this.#putOff.get(volume);
    if (spec === undefined) return;
    try {
      await this.put(volume, spec);
      this.#log.info({ volume, size: spec.size }, 'grew before it was attached again, as told while it was in use');
    } catch (error) {
      // It is as good as it was; whoever wants it larger asks again.
      this.#log.warn({ volume, size: spec.size, error: errorMessage(error) }, 'did not grow before it was attached');
    }
  }

  /** The live volume of a primary. @throws NotFound, NotReady, Fenced */
  async liveExport(volume: string): Promise<ExportLocation> {
    const view = await this.get(volume);
    const { role, state, uid, epoch, primarySince, size, blockSize, nbd, lastError, restore } = view;
    if (state === 'Fenced') throw new UnderstudyError('Fenced', `volume ${volume} is fenced here: ${lastError ?? ''}`);
    if (state === 'Failed' || state === 'Recovering') {
      throw new UnderstudyError('NotReady', `volume ${volume} is ${state}${lastError ? `: ${lastError}` : ''}`);
    }
    if (role !== 'primary')
      throw new UnderstudyError('NotReady', `volume ${volume} is a standby on this node; mount it where it is primary`);
    if (restore?.state === 'Running' || restore?.state === 'Failed') {
      const why = restore.lastError === undefined ? '' : `: ${restore.lastError}`;
      throw new UnderstudyError('NotReady', `volume ${volume}: its restore ${restore.name} is ${restore.state}${why}`);
    }
    const binding = { uid, epoch: primarySince ?? epoch };
    return { socket: nbd, exportName: volume, sizeBytes: size, blockSize, readOnly: false, binding };
  }

  /** What a live attachment must be bound to; undefined once none may be used: fenced, not primary, or gone. */
  async liveBinding(volume: string): Promise<LiveBinding | undefined> {
    const view = await this.#slots.get(volume)?.view();
    if (view?.role !== 'primary' || view.state === 'Fenced') return undefined;
    // A newer epoch of the same primary takes nothing from whoever uses it.
    return { uid: view.uid, epoch: view.primarySince ?? view.epoch };
  }

  async isBlank(volume: string): Promise<boolean> {
    return this.#slot(volume).host.call('isBlank');
  }

  async openScratch(volume: string, snapshot: string, mount: string): Promise<ExportLocation> {
    const slot = this.#slot(volume);
    const { exportName, size } = await slot.host.call('openScratch', snapshot, mount);
    const { blockSize } = await slot.record();
    return { socket: slot.socket, exportName, sizeBytes: size, blockSize, readOnly: false };
  }

  async releaseScratch(volume: string, snapshot: string, mount: string): Promise<void> {
    const slot = this.#slots.get(volume);
    if (slot?.running) await slot.host.call('releaseScratch', snapshot, mount);
  }

  // --------------------------------------------------------------------------------------------------------------

  #slot(volume: string): VolumeSlot {
    const slot = this.#slots.get(volume);
    if (slot) return slot;
    throw new UnderstudyError('NotFound', `no volume ${volume} on this node`);
  }

  /** A slot for every volume whose record is in one of the pools. */
  async #find(): Promise<VolumeSlot[]> {
    for (const pool of this.#pools.all) {
      for (const volume of await this.#pools.volumesIn(pool)) {
        const folder = this.#pools.folderOf(pool.name, volume);
        try {
          const record = await loadRecord(await DiskDirectory.open(folder), folder);
          // A folder without a record holds a buffer, or what a creation that was cut short has left.
          if (record) this.#slots.set(volume, new VolumeSlot(record, this.#slotOptions));
        } catch (error) {
          this.#log.error(
            { volume, pool: pool.name, error: errorMessage(error) },
            'the record of a volume cannot be read',
          );
        }
      }
    }
    return [...this.#slots.values()];
  }

  #recover(slot: VolumeSlot): Promise<void> {
    const { volume } = slot;
    return this.#changes.run(volume, async () => {
      try {
        await slot.start(await slot.record());
      } catch (error) {
        this.#log.error({ volume, error: errorMessage(error) }, 'the volume cannot be started');
      }
    });
  }

  /** Starts a volume whose thread has died, unless somebody else has, or it has been deleted meanwhile. */
  #revive(slot: VolumeSlot): Promise<void> {
    const { volume } = slot;
    return this.#changes.run(volume, async () => {
      if (this.#stopping || this.#slots.get(volume) !== slot || slot.running) return;
      try {
        const known = await slot.record();
        const folder = this.#pools.folderOf(known.pool, volume);
        // A thread that died has left no word: the disk knows.
        await slot.start((await loadRecord(await DiskDirectory.open(folder), folder)) ?? known);
        this.#log.warn({ volume }, 'the volume has been started again after the death of its thread');
      } catch (error) {
        this.#log.error({ volume, error: errorMessage(error) }, 'the volume cannot be started');
      }
    });
  }

  async #create(record: VolumeRecord): Promise<VolumeView> {
    const { volume, pool, size, provisioning } = record;
    const folder = await this.#pools.reserve(pool, volume, size, provisioning);
    const slot = new VolumeSlot(record, this.#slotOptions);
    this.#slots.set(volume, slot);
    try {
      await saveRecord(folder, record);
      await slot.start(record);
      return await slot.view();
    } catch (error) {
      // Nothing was ever acknowledged: a creation that failed leaves nothing behind.
      this.#slots.delete(volume);
      await this.#pools.removeBeside(pool, volume);
      await this.#pools.remove(pool, volume);
      throw error;
    }
  }

  async #acceptMirror(
    volume: string,
    descriptor: number,
    from: string | undefined,
    purpose: LinkPurpose,
  ): Promise<void> {
    await this.#slot(volume).host.call('acceptMirror', descriptor, purpose);
    if (from !== undefined && purpose !== 'fill') this.#primaries.set(volume, from);
  }
}
