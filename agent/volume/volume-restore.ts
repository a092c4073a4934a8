import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { formatBytes } from '../../common/quantity.ts';
import type { RestoreRequest, RestoreView } from '../api/contract/restore.ts';
import type { MirrorView } from '../api/contract/volumes.ts';
import type { Connection } from '../core/connection.ts';
import type { MirrorDevice } from '../mirror/mirror-device.ts';
import type { Connector } from '../mirror/mirror-link-options.ts';
import { RateLimit } from '../mirror/rate-limit.ts';
import { halfRestored, markerForStandby, type RestoreMarker } from '../mirror/restore-marker.ts';
import { RestoreClient } from './restore-client.ts';
import { RestoreRun } from './restore-run.ts';
import { RestoreServer } from './restore-server.ts';
import { CowRestoreSource, type RestoreSource } from './restore-source.ts';
import type { SnapshotHolds } from './snapshot-holds.ts';
import type { RecordStore } from './volume-record.ts';
import type { VolumeStack } from './volume-stack.ts';

export interface VolumeRestoreOptions {
  readonly store: RecordStore;
  readonly stack: VolumeStack;
  /** Opens a connection for restores to the agent at a mirror's address. */
  readonly connect: Connector;
  /** The mirrors of this copy while it is the primary. */
  readonly primary: () => MirrorDevice | undefined;
  /** Connections to the live volume. */
  readonly users: () => number;
  readonly takeSnapshot: (snapshot: string, mirror: string | undefined) => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
  readonly bytesPerSecond: number | undefined;
}

/**
 * The restores of a volume, at one of its copies. What holds, whatever crashes or takes over in the middle:
 *
 * 1. Before the first write of a restore, this copy and every standby in sync have it written down that the volume is being
 *    restored. A standby that comes in sync later is told with that very word (see InSync in the mirror protocol).
 * 2. While a copy has that written down, it does not offer the live volume, and as a primary it goes on with the restore;
 *    if the snapshot is not where it can read it, it says so and offers nothing until somebody decides.
 * 3. A restore is over when that is written down here and at every standby in sync; only then is the live volume offered.
 * 4. A restore that is over is remembered by its name, at all of them: asked for again, it is not done again.
 *
 * For (1) and (3) the order is: the own record, a flush through the streams of the mirrors (no older word is on its way
 * behind it), the standbys. A standby whose record is behind was in sync when nothing had been written since.
 */
export class VolumeRestore {
  readonly #options: VolumeRestoreOptions;
  #run: RestoreRun | undefined;
  /** Asked for, and not begun yet. */
  #beginning = false;
  /** The outcome is not known everywhere yet. */
  #ending = false;

  constructor(options: VolumeRestoreOptions) {
    this.#options = options;
  }

  /** Why the live volume must not be used now. */
  get obstacle(): string | undefined {
    const { volume, restore } = this.#options.store.record;
    if (this.#beginning) return `volume ${volume} is about to be restored`;
    if (this.#ending && restore !== undefined && !restore.allowInUse)
      return `volume ${volume} is being restored: the end of restore ${restore.name} is being written down`;
    return halfRestored(volume, restore);
  }

  view(): { restore?: RestoreView } {
    const { restore } = this.#options.store.record;
    if (restore === undefined) return {};
    const { name, snapshot, mirror, state, startedAt, endedAt, failure } = restore;
    return {
      restore: {
        name,
        snapshot,
        ...(mirror === undefined ? {} : { mirror }),
        state: this.#ending ? 'Running' : state,
        startedAt,
        ...(endedAt === undefined || this.#ending ? {} : { endedAt }),
        ...(failure === undefined ? {} : { lastError: failure }),
        ...this.#run?.view(),
      },
    };
  }

  /** The copy is the primary now, or again: a restore that was under way goes on. */
  resume(): void {
    const { restore, unusable } = this.#options.store.record;
    const target = this.#options.primary();
    if (restore?.state !== 'Running' || unusable !== undefined || target === undefined || this.#run) return;
    this.#start(restore, target);
  }

  /** The copy stops, or is about to be the primary no more: what it still writes fails when the mirrors are closed. */
  halt(): void {
    this.#run?.halt();
    this.#run = undefined;
    this.#ending = false;
  }

  /**
   * Begins a restore. @throws Conflict (another one is under way; a standby; written to since `before`), InUse, NoSpace (the
   * buffer), NotReady (the mirror is not in sync), NotFound, Corrupt (the snapshot is lost)
   */
  async begin(request: RestoreRequest): Promise<void> {
    const { store } = this.#options;
    const { volume, restore: last, unusable } = store.record;
    const target = this.#primary();
    if (last?.name === request.name) return this.#checkSame(last, request);
    if (last?.state === 'Running' || this.#beginning || this.#ending)
      throw this.#conflict(
        `is being restored already (${last?.name ?? 'another restore'}): wait for it, or give it up first`,
      );
    if (unusable !== undefined) throw new UnderstudyError('NotReady', `volume ${volume} is ${unusable.state}`);
    this.#beginning = true;
    try {
      this.#checkUnused(request);
      await this.#checkOutlook(request);
      const marker: RestoreMarker = {
        name: request.name,
        snapshot: request.snapshot,
        ...(request.mirror === undefined ? {} : { mirror: request.mirror }),
        state: 'Running',
        allowInUse: request.allowInUse,
        startedAt: new Date(this.#options.clock.wallTimeMs()).toISOString(),
      };
      await store.update((record) => ({ ...record, restore: marker }));
      this.#start(marker, target);
    } finally {
      this.#beginning = false;
    }
  }

  /** Leaves the volume as it is now, half restored or not, and offers it. @throws Conflict (a standby) */
  async giveUp(): Promise<void> {
    const target = this.#primary();
    const { restore } = this.#options.store.record;
    if (restore === undefined || restore.state === 'Done' || restore.state === 'GivenUp') return;
    await this.#run?.stop();
    this.#start(
      { ...restore, state: 'GivenUp', endedAt: new Date(this.#options.clock.wallTimeMs()).toISOString() },
      target,
    );
  }

  /** Takes over a connection of the primary's; with `holds`, of a volume that is filled from one of them. */
  accept(connection: Connection, holds?: SnapshotHolds): void {
    const { store, stack, log } = this.#options;
    const { volume } = store.record;
    new RestoreServer(connection, {
      store,
      source: new CowRestoreSource(stack.cow, volume, this.#options.clock),
      device: stack.top,
      isStandby: () => store.record.role === 'standby',
      holds,
      log,
    });
  }

  #start(marker: RestoreMarker, target: MirrorDevice): void {
    const { clock, log, bytesPerSecond } = this.#options;
    this.#run = new RestoreRun({
      marker,
      target,
      begin: (now) => this.#openSource(now),
      end: (outcome) => this.#end(outcome, target),
      clock,
      log,
      limit: new RateLimit(clock, bytesPerSecond),
    });
  }

  async #openSource(marker: RestoreMarker): Promise<RestoreSource> {
    const { stack, store, clock } = this.#options;
    if (marker.elsewhere) {
      const message = `snapshot ${marker.snapshot} is not on this copy; restore another one, or give this restore up`;
      throw new UnderstudyError('NotFound', message);
    }
    const target = this.#primary();
    await target.flush();
    await this.#tellStandbys(marker, target);
    if (marker.mirror === undefined) return new CowRestoreSource(stack.cow, store.record.volume, clock);
    return await this.#connect(this.#keeper(target, marker.mirror));
  }

  async #end(marker: RestoreMarker, target: MirrorDevice): Promise<void> {
    const { store } = this.#options;
    this.#ending = true;
    await store.update((record) => ({ ...record, restore: marker }));
    await target.flush();
    await this.#tellStandbys(marker, target);
    this.#ending = false;
  }

  /** Those that are not in sync are told when they are. */
  async #tellStandbys(marker: RestoreMarker, target: MirrorDevice): Promise<void> {
    const inSync = target.mirrors.filter(({ mode, state }) => mode === 'synchronous' && state === 'InSync');
    for (const mirror of inSync) {
      const client = await this.#connect(mirror);
      try {
        await client.mark(markerForStandby(marker, mirror.name) ?? marker);
      } finally {
        await client.close();
      }
    }
  }

  async #connect({ address }: Pick<MirrorView, 'address'>): Promise<RestoreClient> {
    const { store, connect } = this.#options;
    const { volume, uid, epoch } = store.record;
    return await RestoreClient.open(await connect(address, volume), { uid, epoch });
  }

  /** What would go wrong is found out before anything is written down. */
  async #checkOutlook({ snapshot, mirror, before }: RestoreRequest): Promise<void> {
    const { stack, store, takeSnapshot, clock } = this.#options;
    const { volume } = store.record;
    const target = this.#primary();
    const source =
      mirror === undefined
        ? new CowRestoreSource(stack.cow, volume, clock)
        : await this.#connect(this.#keeper(target, mirror));
    try {
      const { changedBytes, changedSinceBefore, neededBytes, freeBytes } = await source.look(snapshot, before);
      if (changedSinceBefore !== undefined && changedSinceBefore > 0)
        throw this.#conflict(`has been written to since snapshot ${before}, which is to keep what was there before`);
      const isToBeTaken = before !== undefined && changedSinceBefore === undefined;
      // A snapshot of now has nothing in the buffer yet.
      const toPreserve = isToBeTaken ? changedBytes : neededBytes;
      if (toPreserve > freeBytes) {
        const message = `the snapshot buffer needs ${formatBytes(toPreserve)} for what is overwritten, and has ${formatBytes(freeBytes)}: delete snapshots, or enlarge it; otherwise snapshot ${snapshot} could be lost in the middle`;
        throw new UnderstudyError('NoSpace', message);
      }
      if (isToBeTaken) await takeSnapshot(before, mirror);
    } finally {
      await source.close();
    }
  }

  /** The mirror whose standby keeps the snapshot: in sync, so that it differs from the volume by nothing else. */
  #keeper(target: MirrorDevice, name: string): MirrorView {
    const mirror = target.mirrors.find((candidate) => candidate.name === name);
    const { volume } = this.#options.store.record;
    if (mirror === undefined) throw new UnderstudyError('NotFound', `volume ${volume} has no mirror ${name}`);
    if (mirror.mode !== 'synchronous')
      throw new UnderstudyError(
        'Invalid',
        `mirror ${name} is asynchronous: snapshots of it cannot be restored in place`,
      );
    if (mirror.state === 'InSync') return mirror;
    throw new UnderstudyError('NotReady', `mirror ${name} is ${mirror.state}, and a restore from it needs InSync`);
  }

  #checkUnused({ allowInUse }: RestoreRequest): void {
    const users = this.#options.users();
    if (users === 0 || allowInUse) return;
    const { volume } = this.#options.store.record;
    const message = `volume ${volume} has ${users} connections to its live export: unmount or disconnect them first, or say allowInUse`;
    throw new UnderstudyError('InUse', message);
  }

  #checkSame(last: RestoreMarker, { name, snapshot }: RestoreRequest): void {
    if (last.snapshot !== snapshot) throw this.#conflict(`has had a restore ${name} of snapshot ${last.snapshot}`);
  }

  #primary(): MirrorDevice {
    const mirror = this.#options.primary();
    if (mirror) return mirror;
    throw this.#conflict('is no primary here; it is restored where it is');
  }

  #conflict(message: string): UnderstudyError {
    return new UnderstudyError('Conflict', `volume ${this.#options.store.record.volume} ${message}`);
  }
}
