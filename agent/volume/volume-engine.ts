import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { GroupHoldView } from '../api/contract/groups.ts';
import type { PrepareResult, SnapshotView, VolumeSpec, VolumeView } from '../api/contract/volumes.ts';
import type { Connection } from '../core/connection.ts';
import type { Arbiter } from '../mirror/arbiter.ts';
import type { Barrier, BarrierRecord } from '../mirror/messages.ts';
import type { MirrorDevice } from '../mirror/mirror-device.ts';
import type { Connector, MirrorTiming } from '../mirror/mirror-link-options.ts';
import { NbdServer } from '../nbd/server.ts';
import { AcknowledgementHolds } from './acknowledgement-holds.ts';
import { isBlank } from './blankness.ts';
import { HoldableDevice } from './holdable-device.ts';
import { MeteredDevice } from './metered-device.ts';
import {
  type CopyRole,
  changeLive,
  changeRole,
  closeCopy,
  type LiveChange,
  type OpenedCopy,
  openCopy,
  refuseMirror,
} from './open-copy.ts';
import { OperationStatistics, type VolumeStatistics } from './operation-statistics.ts';
import { ScratchViews } from './scratch-views.ts';
import { SnapshotHolds } from './snapshot-holds.ts';
import { snapshotView } from './snapshot-view.ts';
import { type StandbyCopyOfVolume, takeOn } from './standby-copy.ts';
import { planChange } from './volume-change.ts';
import { VolumeExports } from './volume-exports.ts';
import { filledView } from './volume-fill.ts';
import type { FillOrigin, RecordStore, VolumeRecord } from './volume-record.ts';
import { VolumeRestore } from './volume-restore.ts';
import type { VolumeFolders, VolumeStack } from './volume-stack.ts';
import { type Lull, type LullFound, WriteActivity } from './write-activity.ts';

export interface EngineOptions {
  readonly record: VolumeRecord;
  readonly folders: VolumeFolders;
  /** Path of the unix socket on which the exports are served. */
  readonly socket: string;
  readonly connect: Connector;
  /** The same, to read snapshots of a standby for a restore. */
  readonly connectForRestore: Connector;
  readonly connectForFilling: (origin: FillOrigin) => Promise<Connection>;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  /** Names unlike any other: of resync bases and of snapshot attempts. */
  readonly newId: () => string;
  /** Of this agent, if it has one. */
  readonly arbiter?: Arbiter | undefined;
  /** The limit on the resyncs of mirrors that have none of their own. */
  readonly resyncBytesPerSecond?: number | undefined;
}

/** What differs with the role of the copy. */
type Role =
  | {
      readonly kind: 'primary';
      readonly mirror: MirrorDevice;
      readonly holdable: HoldableDevice;
      readonly live: MeteredDevice;
      readonly activity: WriteActivity;
    }
  | { readonly kind: 'standby'; readonly standby: StandbyCopyOfVolume; readonly mirror: MirrorDevice | undefined }
  /** One has ended, and the other has not begun. */
  | { readonly kind: 'changing'; readonly mirror?: undefined };

/**
 * One copy of a volume in use: its stack of layers, its exports, and its end of the mirror. It lives in a thread of its
 * own, so that whatever blocks or breaks it takes no other volume along.
 */
export class VolumeEngine {
  readonly #options: EngineOptions;
  readonly #store: RecordStore;
  readonly #stack: VolumeStack;
  readonly #scratch: ScratchViews;
  #role: Role;
  readonly #exports: VolumeExports;
  readonly #statistics: OperationStatistics;
  readonly restore: VolumeRestore;
  readonly holds: SnapshotHolds;
  readonly #acknowledgements: AcknowledgementHolds;
  /** Snapshots on their way. */
  readonly #attempts = new Map<string, Promise<BarrierRecord>>();
  #server: NbdServer | undefined;

  private constructor(
    options: EngineOptions,
    store: RecordStore,
    stack: VolumeStack,
    role: Role,
    statistics: OperationStatistics,
  ) {
    this.#options = options;
    this.#store = store;
    this.#stack = stack;
    this.#role = role;
    this.#statistics = statistics;
    const { volume } = options.record;
    this.#scratch = new ScratchViews(volume, stack.cow, options.folders.buffer);
    const live = role.kind === 'primary' ? role.live : undefined;
    this.#exports = new VolumeExports({ volume, cow: stack.cow, scratch: this.#scratch });
    this.#exports.live = live;
    this.restore = new VolumeRestore({
      store,
      stack,
      connect: options.connectForRestore,
      primary: () => (this.#role.kind === 'primary' ? this.#role.mirror : undefined),
      users: () => this.#exports.liveConnections,
      takeSnapshot: async (snapshot, mirror) => this.finishSnapshot(this.beginSnapshot(snapshot, mirror, undefined)),
      clock: options.clock,
      log: options.log,
      bytesPerSecond: options.resyncBytesPerSecond,
    });
    this.#acknowledgements = new AcknowledgementHolds(volume, options.clock);
    this.holds = new SnapshotHolds(store, stack.cow, options.log);
    this.#exports.obstacle = () => this.restore.obstacle;
  }

  static async start(options: EngineOptions): Promise<VolumeEngine> {
    const { store, stack, role } = await openCopy(options);
    const statistics = new OperationStatistics();
    const metered = withActivity(role, options.clock, statistics);
    const engine = new VolumeEngine(options, store, stack, metered, statistics);
    engine.restore.resume();
    engine.#server = await NbdServer.listen({ path: options.socket, exports: engine.#exports, log: options.log });
    return engine;
  }

  get record(): VolumeRecord {
    return this.#store.record;
  }

  /** Clients of the live volume. */
  get liveConnections(): number {
    return this.#exports.liveConnections;
  }

  view(): VolumeView {
    const { volume, uid, role, epoch, size, blockSize, pool, buffer, standby, unusable, primarySince } =
      this.#store.record;
    const usage = this.#stack.cow?.usage();
    return {
      volume,
      ...(uid === undefined ? {} : { uid }),
      role,
      epoch,
      size,
      blockSize,
      pool,
      state: this.#state(),
      nbd: this.#options.socket,
      consistent: role === 'primary' || standby.consistent,
      clean: role === 'primary' || standby.clean,
      ...(role === 'standby' && standby.preparedEpoch !== undefined ? { prepared: standby.preparedEpoch } : {}),
      ...(role === 'standby' ? { dataEpoch: standby.dataEpoch } : {}),
      attached: this.liveConnections > 0,
      ...(role === 'primary' ? { primarySince: primarySince ?? epoch } : {}),
      arbiter: this.#arbiterView(),
      ...lastErrorOf(unusable?.reason, this.#stack.bufferFailure),
      ...(this.#role.kind === 'standby' ? { link: this.#role.standby.link } : {}),
      ...this.restore.view(),
      ...(this.#stack.fill === undefined ? filledView(this.#store.record.fill) : { filling: this.#stack.fill.view() }),
      mirrors: this.#role.mirror?.mirrors ?? [],
      ...(this.#store.record.peers === undefined ? {} : { peers: this.#store.record.peers }),
      snapshots: (this.#stack.cow?.listSnapshots() ?? []).map(snapshotView),
      ...(buffer && usage
        ? {
            buffer: {
              pool: buffer.pool,
              usedBytes: usage.usedBytes,
              capacityBytes: usage.capacityBytes,
              maxSnapshots: usage.maxSnapshots,
            },
          }
        : {}),
    };
  }

  statistics(): VolumeStatistics {
    return { operations: this.#statistics.counts(), invalidatedSnapshots: this.#stack.invalidated.count };
  }

  #arbiterView(): NonNullable<VolumeView['arbiter']> {
    const { arbiterKey } = this.#store.record;
    const available = this.#options.arbiter !== undefined;
    return { available, ...(arbiterKey === undefined ? {} : { key: arbiterKey }) };
  }

  #state(): VolumeView['state'] {
    const { unusable } = this.#store.record;
    if (unusable) return unusable.state;
    return this.#role.kind === 'primary' && this.#role.mirror.suspended ? 'Suspended' : 'Ready';
  }

  /** Changes what can be changed under a volume that is in use. */
  async changeLive(change: LiveChange): Promise<void> {
    await changeLive(this.#opened('changed'), change);
  }

  /**
   * Changes the role of a copy whose live volume nobody uses, while its snapshots may be read.
   * @throws what planChange does; the copy then is what it was
   */
  async changeRole(spec: VolumeSpec): Promise<void> {
    const { volume } = this.#options.record;
    if (spec.readers === 'disconnect') await this.#server?.disconnect((name) => name.startsWith(`${volume}@`));
    const { clock } = this.#options;
    this.restore.halt();
    this.#acknowledgements.letGo('the role of the copy was changed');
    const opened = this.#opened('changed');
    this.#role = { kind: 'changing' };
    this.#exports.live = undefined;
    const { role, refused } = await changeRole(
      this.#options,
      opened,
      (record) => planChange(volume, record, spec).record,
    );
    this.#role = withActivity(role, clock, this.#statistics);
    this.#exports.live = this.#role.kind === 'primary' ? this.#role.live : undefined;
    this.restore.resume();
    if (refused !== undefined) throw refused;
  }

  prepare(epoch: number): Promise<PrepareResult> {
    if (this.#role.kind !== 'standby')
      throw this.#conflict('is primary here already; only a standby is prepared for promotion');
    return this.#role.standby.prepare(epoch);
  }

  /** The mirrors of a primary. @throws UnderstudyError Conflict on a standby */
  primary(done: string): MirrorDevice {
    if (this.#role.kind === 'primary') return this.#role.mirror;
    throw this.#conflict(`is a standby here; its copies are ${done} at the primary`);
  }

  /** Takes over a connection that a primary has opened to this copy. */
  acceptMirror(connection: Connection): void {
    if (this.#role.kind === 'standby') return this.#role.standby.accept(connection);
    if (this.#role.kind === 'changing') return connection.destroy();
    const { log, clock } = this.#options;
    refuseMirror(connection, this.#store, this.#stack, log, clock);
  }

  waitForLull(lull: Lull): Promise<LullFound> {
    if (this.#role.kind !== 'primary') throw this.#conflict('is a standby here; a lull is waited for at the primary');
    return this.#role.activity.waitForLull(lull);
  }

  /** Holds the acknowledgements of the live volume for an attempt of a snapshot group. @throws as AcknowledgementHolds does */
  holdAcknowledgements(attempt: string, deadlineMs: number): Promise<GroupHoldView> {
    if (this.#role.kind !== 'primary')
      throw this.#conflict('is a standby here; acknowledgements are held at the primary');
    const { mirror, holdable } = this.#role;
    const inOrder = () => mirror.inOrder(async () => undefined);
    return this.#acknowledgements.hold(attempt, deadlineMs, { hold: () => holdable.hold(), inOrder });
  }

  /** @throws UnderstudyError NotFound */
  releaseAcknowledgements(attempt: string): GroupHoldView {
    return this.#acknowledgements.release(attempt);
  }

  /** Sends the barrier: to a mirror's standby, or to this copy. @returns the attempt, to be finished */
  beginSnapshot(
    snapshot: string,
    mirror: string | undefined,
    frozenUntilMs: number | undefined,
    { hooks, group }: { readonly hooks?: string | undefined; readonly group?: string | undefined } = {},
  ): string {
    const { clock, newId } = this.#options;
    if (group !== undefined) this.#acknowledgements.require(group);
    const nowMs = clock.wallTimeMs();
    const consistency = frozenUntilMs !== undefined && nowMs < frozenUntilMs ? 'filesystem' : 'crash';
    const barrier: Barrier = {
      snapshot,
      attempt: newId(),
      takenAt: new Date(nowMs).toISOString(),
      consistency,
      ...(hooks === undefined ? {} : { hooks }),
    };
    const taken = this.#take(barrier, mirror?.split('/') ?? []);
    // Whoever finishes it learns of a failure.
    taken.catch(() => undefined);
    this.#attempts.set(barrier.attempt, taken);
    return barrier.attempt;
  }

  /** Resolves when the snapshot is Ready. */
  async finishSnapshot(attempt: string): Promise<BarrierRecord> {
    const taken = this.#attempts.get(attempt);
    if (!taken) throw new UnderstudyError('NotFound', `volume ${this.record.volume}: no attempt ${attempt}`);
    try {
      return await taken;
    } finally {
      this.#attempts.delete(attempt);
    }
  }

  async #take(barrier: Barrier, [mirror, ...via]: string[]): Promise<BarrierRecord> {
    if (mirror !== undefined) {
      if (this.#role.kind !== 'primary')
        throw this.#conflict('is a standby here; a snapshot of a mirror is ordered at the primary');
      return this.#role.mirror.barrier(mirror, via.length > 0 ? { ...barrier, via } : barrier);
    }
    if (this.#role.kind === 'standby' && !this.#store.record.standby.consistent) {
      throw new UnderstudyError(
        'NotReady',
        `volume ${this.record.volume}: this copy is inconsistent until its resync is done`,
      );
    }
    // A copy that is becoming something else is consistent only if it is in its new role.
    this.#opened('snapshotted');
    const take = () => takeOn(this.#stack.cow, this.record.volume, barrier);
    // A standby has promised its primary that it holds what still waits in front of its mirrors.
    return this.#role.kind === 'standby' && this.#role.mirror ? this.#role.mirror.inOrder(take) : take();
  }

  snapshot(name: string): SnapshotView | undefined {
    const info = this.#stack.cow?.snapshot(name);
    return info && !info.internal ? snapshotView(info) : undefined;
  }

  async deleteSnapshot(name: string): Promise<void> {
    const info = this.#stack.cow?.snapshot(name);
    if (!info || info.internal) return;
    await this.#stack.cow?.deleteSnapshot(name);
  }

  isBlank(): Promise<boolean> {
    return isBlank(this.#stack.top);
  }

  /** Makes the scratch overlay of a mount ready, and names its export. */
  async openScratch(snapshot: string, mount: string): Promise<{ exportName: string; size: number }> {
    const { size } = await this.#scratch.view(snapshot, mount);
    return { exportName: `${this.record.volume}@${snapshot}+${mount}`, size };
  }

  async releaseScratch(snapshot: string, mount: string): Promise<void> {
    await this.#server?.disconnect((name) => name === `${this.record.volume}@${snapshot}+${mount}`);
    await this.#scratch.release(snapshot, mount);
  }

  /** Stops in order: clients first, then the mirror, then the layers from the top down; the record says so at the end. */
  async stop(): Promise<void> {
    this.#acknowledgements.letGo('the volume was stopped');
    await this.#server?.close();
    this.restore.halt();
    await this.#scratch.close();
    // A change of role that failed has closed what is above already.
    if (this.#role.kind === 'changing') await this.#stack.top.close();
    else await closeCopy(this.#opened('stopped'));
  }

  #opened(what: string): OpenedCopy {
    if (this.#role.kind === 'changing') {
      throw new UnderstudyError(
        'NotReady',
        `volume ${this.record.volume} cannot be ${what}: its role is being changed`,
      );
    }
    return { store: this.#store, stack: this.#stack, role: this.#role };
  }

  #conflict(message: string): UnderstudyError {
    return new UnderstudyError('Conflict', `volume ${this.record.volume} ${message}`);
  }
}

function withActivity(role: CopyRole, clock: Clock, statistics: OperationStatistics): Role {
  if (role.kind === 'standby') return role;
  const activity = new WriteActivity(clock);
  const holdable = new HoldableDevice(role.mirror);
  return { ...role, holdable, live: new MeteredDevice(holdable, activity, statistics, clock), activity };
}

/** What is wrong with the copy, or else with its buffer. */
function lastErrorOf(unusable: string | undefined, buffer: string | undefined): { lastError?: string } {
  if (unusable !== undefined) return { lastError: unusable };
  return buffer === undefined ? {} : { lastError: `no snapshots, since the buffer cannot be used: ${buffer}` };
}
