import { type PrepareResult, type VolumeSpec, volumeSpecSchema } from '../../agent/api/contract/volumes.ts';
import type { Connection } from '../../agent/core/connection.ts';
import type { StorageDirectory } from '../../agent/core/storage.ts';
import type { Arbiter } from '../../agent/mirror/arbiter.ts';
import type { MirrorDevice } from '../../agent/mirror/mirror-device.ts';
import type { MirrorTiming } from '../../agent/mirror/mirror-link-options.ts';
import {
  type CopyOptions,
  changeLive,
  changeRole,
  closeCopy,
  type OpenedCopy,
  openCopy,
  refuseMirror,
} from '../../agent/volume/open-copy.ts';
import { planChange } from '../../agent/volume/volume-change.ts';
import { loadRecord, saveRecord, type VolumeRecord } from '../../agent/volume/volume-record.ts';
import { VolumeRestore } from '../../agent/volume/volume-restore.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Random } from '../support/random.ts';
import { SimulatedDisk } from '../support/simulated-storage.ts';
import type { History, PrimaryLife } from './history.ts';
import { type ClockSkew, ProcessScope, traceLog } from './process-scope.ts';
import type { Scheduler } from './scheduler.ts';
import type { Purpose, SimulatedNetwork } from './simulated-network.ts';
import { readStamp, sectorBytes } from './stamps.ts';
import type { Trace } from './trace.ts';
import type { Variant } from './variants.ts';
import type { Violations } from './violations.ts';

export const volumeName = 'v';
export const maxSnapshots = 8;
/** Small, so that the journal is used, and overflows. */
const queueBytes = 64 * 1024;
const journalBytes = 1024 * 1024;
/** Slow, so that much happens in the middle of a restore. */
const restoredBytesPerSecond = 128 * 1024;

export interface NodeOptions {
  readonly name: string;
  readonly volumeBytes: number;
  readonly scheduler: Scheduler;
  readonly network: SimulatedNetwork;
  readonly random: Random;
  readonly trace: Trace;
  readonly violations: Violations;
  readonly history: History;
  readonly timing: MirrorTiming;
  readonly variant: Variant;
  /** It is behind an asynchronous mirror. */
  readonly follows: boolean;
  /** A life as a primary begins. */
  readonly onLife: (life: PrimaryLife) => void;
  /** The arbiter as this node's primary sees it; undefined: without one. */
  readonly arbiter: ((scope: ProcessScope) => Arbiter) | undefined;
  readonly disk: { readonly slowness: number; readonly maxSyncMs: number };
  readonly newId: () => string;
  /** How fast its clocks run; 1 is right. */
  readonly clockRate: number;
}

/** A machine with two disks and the process of one agent, which has (at most) one copy of the volume. */
export class SimulatedNode {
  readonly name: string;
  readonly dataDisk: SimulatedDisk;
  readonly bufferDisk: SimulatedDisk;
  readonly #options: NodeOptions;
  scope: ProcessScope;
  copy: OpenedCopy | undefined;
  /** Restores of its copy, in place. */
  restore: VolumeRestore | undefined;
  /** Its process has found no copy. */
  isEmpty = false;
  /** It is switched off, and nobody switches it on. */
  heldDown = false;
  /** Operations of clients that are under way here. */
  users = 0;
  readonly skew: ClockSkew;
  /** As a primary. */
  life: PrimaryLife | undefined;
  readonly #stamps = new WeakMap<Uint8Array, Map<number, number>>();
  #lives = 0;
  /** Changes and starts, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  /** A disk was made to fail here; from then on errors of it are no violations. */
  dataTrouble = false;
  /** Its disks were exchanged, and it has not come in sync since. */
  disksReplaced = false;
  bufferTrouble = false;
  /** The disk of a sparse volume was full at some time: writes may have failed here. */
  dataFull = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.name = options.name;
    this.skew = { rate: options.clockRate, offsetMs: 0 };
    const { random, scheduler, disk } = options;
    const turn = () => scheduler.delay(0.05 + random.fraction() * disk.maxSyncMs);
    this.dataDisk = new SimulatedDisk({ random, slowness: disk.slowness, turn });
    this.bufferDisk = new SimulatedDisk({ random, slowness: disk.slowness, turn });
    this.scope = new ProcessScope(scheduler, this.skew);
    this.scope.end();
  }

  get isUp(): boolean {
    return this.scope.alive;
  }

  /** The live volume, if this node takes itself for the primary. */
  get device(): MirrorDevice | undefined {
    return this.isUp && this.copy?.role.kind === 'primary' ? this.copy.role.mirror : undefined;
  }

  get record(): VolumeRecord | undefined {
    return this.copy?.store.record;
  }

  /** Starts the process; the copy, if there is one, is there a little later. */
  boot(): void {
    if (this.isUp || this.heldDown) return;
    const { scheduler, network, trace } = this.#options;
    const scope = new ProcessScope(scheduler, this.skew);
    this.scope = scope;
    this.#lives += 1;
    this.#turn = Promise.resolve();
    network.listen(this.name, { scope, accept: (connection, purpose) => this.#accept(connection, purpose) });
    trace.note(this.name, 'boots');
    let created = true;
    void this.#inTurn(async () => {
      const record = await loadRecord(this.#directory(), this.name);
      this.isEmpty = record === undefined;
      if (!record) return;
      created = record.created;
      await this.#options.variant.beforeStart?.(this.dataDisk);
      await this.#open(this.#options.variant.record?.(record) ?? record, false);
    }).catch((error: unknown) => this.#cannotStart(error, created));
  }

  /** The process is killed; the page cache stays. */
  kill(): void {
    if (!this.isUp) return;
    this.#options.trace.note(this.name, 'is killed');
    this.#end(false);
    this.#options.network.killed(this.scope);
    this.dataDisk.kill();
    this.bufferDisk.kill();
  }

  /** The machine loses power. */
  crash(): void {
    this.#options.trace.note(this.name, 'crashes');
    this.#end(true);
    this.#options.network.crashed(this.scope);
    this.dataDisk.crash();
    this.bufferDisk.crash();
  }

  /** Both disks are exchanged for empty ones. */
  wipe(): void {
    this.kill();
    this.disksReplaced = true;
    this.dataDisk.wipe();
    this.bufferDisk.wipe();
    this.dataTrouble = false;
    this.bufferTrouble = false;
  }

  /** PUT of the volume, as the agent does it: in place, or else stop, decide, write down, start. */
  put(spec: VolumeSpec): Promise<void> {
    return this.#inTurn(async () => {
      const { trace } = this.#options;
      const asked = planChange(volumeName, await this.#currentRecord(), spec);
      if (asked.kind === 'none' && this.copy) return;
      trace.note(this.name, `put ${spec.role} of epoch ${spec.epoch}: ${asked.kind}`);
      if (asked.kind === 'live' && this.copy) return changeLive(this.copy, asked.record);
      if (asked.kind === 'role' && this.copy) return this.#changeRole(this.copy, spec);
      const synced = this.copy !== undefined;
      if (this.copy) await this.#stop(this.copy);
      const { record } = planChange(volumeName, await this.#currentRecord(), spec);
      await saveRecord(this.#directory(), record);
      this.isEmpty = false;
      await this.#open(record, synced);
    });
  }

  /** The process stops in order and starts again. */
  restart(): Promise<void> {
    return this.#inTurn(async () => {
      const stopping = this.copy;
      if (!stopping) return;
      this.#options.trace.note(this.name, 'restarts in order');
      await this.#stop(stopping);
      await this.#open(stopping.store.record, true);
    });
  }

  prepare(epoch: number): Promise<PrepareResult> {
    return this.#inTurn(async () => {
      if (this.copy?.role.kind !== 'standby') throw new UnderstudyError('Conflict', 'not a running standby');
      return this.copy.role.standby.prepare(epoch);
    });
  }

  /** The stamps of what a read of the data file would find now, past everything that is queued above it. */
  image(which: 'current' | 'durable' = 'current'): Int32Array {
    const sectors = this.#options.volumeBytes / sectorBytes;
    const image = new Int32Array(sectors);
    for (let sector = 0; sector < sectors; sector += 1) image[sector] = this.stampAt(sector, which);
    return image;
  }

  stampAt(sector: number, which: 'current' | 'durable'): number {
    const content = this.dataDisk.sector('data', sector, which);
    if (!content) return 0;
    // The disk never changes a sector in place.
    const known = this.#stamps.get(content)?.get(sector);
    if (known !== undefined) return known;
    const stamp = readStamp(content, sector);
    const stamps = this.#stamps.get(content) ?? new Map<number, number>();
    stamps.set(sector, stamp);
    this.#stamps.set(content, stamps);
    return stamp;
  }

  #directory(role?: 'primary' | 'standby'): StorageDirectory {
    const directory = this.dataDisk.mount();
    return this.scope.directory((role && this.#varied(directory, role)) ?? directory);
  }

  #varied(directory: StorageDirectory, role: 'primary' | 'standby'): StorageDirectory | undefined {
    const { variant, follows } = this.#options;
    return follows ? variant.followerDirectory?.(directory) : variant.dataDirectory?.(directory, role);
  }

  async #stop(copy: OpenedCopy): Promise<void> {
    const { life } = this;
    this.copy = undefined;
    this.life = undefined;
    this.restore?.halt();
    this.restore = undefined;
    await closeCopy(copy);
    // What was under way may have been acknowledged until here.
    this.#options.history.ended(this.name, life, false);
  }

  async #currentRecord(): Promise<VolumeRecord | undefined> {
    return this.copy?.store.record ?? (await loadRecord(this.#directory(), this.name));
  }

  #accept(connection: Connection, purpose: Purpose): void {
    const { copy, scope } = this;
    if (!copy) return connection.destroy();
    if (purpose === 'restore') return this.restore?.accept(connection);
    if (copy.role.kind === 'standby') {
      const { variant } = this.#options;
      return copy.role.standby.accept(variant.connection?.(connection, scope.clock) ?? connection);
    }
    const log = traceLog(this.#options.trace, this.name, scope);
    refuseMirror(connection, copy.store, copy.stack, log, scope.clock);
  }

  /** What is below stays open. */
  async #changeRole(copy: OpenedCopy, spec: VolumeSpec): Promise<void> {
    const { life } = this;
    this.copy = undefined;
    this.life = undefined;
    this.restore?.halt();
    let image = this.image();
    const { role, refused } = await changeRole(this.#copyOptions(copy.store.record), copy, (record) => {
      this.#options.history.ended(this.name, life, false);
      image = this.image();
      return planChange(volumeName, record, spec).record;
    });
    this.copy = { ...copy, role };
    const { record } = copy.store;
    this.#options.trace.note(this.name, `is ${record.role} in epoch ${record.epoch}`);
    if (role.kind === 'primary') {
      this.life = this.#options.history.started(this.name, record.epoch, this.#lives, image, true);
      this.#options.onLife(this.life);
    }
    this.restore?.resume();
    if (refused !== undefined) throw refused;
  }

  async #open(record: VolumeRecord, synced: boolean): Promise<void> {
    const { history, trace } = this.#options;
    const image = this.image();
    const copy = await openCopy(this.#copyOptions(record));
    this.copy = copy;
    this.restore = this.#restoreOf(copy);
    trace.note(this.name, `is ${record.role} in epoch ${record.epoch}`);
    if (copy.role.kind === 'primary') {
      this.life = history.started(this.name, record.epoch, this.#lives, image, synced);
      this.#options.onLife(this.life);
    }
    this.restore.resume();
  }

  #restoreOf({ store, stack }: OpenedCopy): VolumeRestore {
    const { network, trace } = this.#options;
    const { scope } = this;
    return new VolumeRestore({
      store,
      stack,
      connect: (address) => scope.guard(() => network.connect(this.name, scope, hostOf(address), 'restore')),
      primary: () => this.device,
      users: () => this.users,
      takeSnapshot: () => Promise.reject(new UnderstudyError('Invalid', 'not simulated')),
      clock: scope.clock,
      log: traceLog(trace, this.name, scope),
      bytesPerSecond: restoredBytesPerSecond,
    });
  }

  #copyOptions(record: VolumeRecord): CopyOptions {
    const { network, timing, trace, newId, arbiter, variant } = this.#options;
    const { scope } = this;
    const granted = arbiter?.(scope);
    return {
      record,
      folders: {
        data: this.#directory(record.role),
        buffer: record.buffer && scope.directory(this.bufferDisk.mount()),
        inPool: async () => scope.directory(this.bufferDisk.mount()),
      },
      connect: (address) => scope.guard(() => network.connect(this.name, scope, hostOf(address))),
      clock: scope.clock,
      timing,
      queueBytes,
      log: traceLog(trace, this.name, scope),
      newId,
      arbiter: granted && (variant.arbiter?.(granted) ?? granted),
    };
  }

  #cannotStart(error: unknown, created: boolean): void {
    const { trace, violations } = this.#options;
    trace.note(this.name, `cannot start: ${errorMessage(error)}`);
    // A buffer that fails while the volume is created makes the creation fail.
    const excused = this.dataTrouble || this.dataFull || (this.bufferTrouble && !created);
    if (!excused) violations.report('8', `${this.name} cannot start: ${errorMessage(error)}`);
  }

  #end(machine: boolean): void {
    this.scope.end();
    this.copy = undefined;
    this.restore = undefined;
    this.users = 0;
    this.#options.history.ended(this.name, this.life, machine);
    this.life = undefined;
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const { scope } = this;
    const done = scope.guard(() => this.#turn.then(task));
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

function hostOf(address: string): string {
  return address.slice(0, address.indexOf(':'));
}

/** What the operator asks of a copy. */
export function specOf(
  volumeBytes: number,
  shape: {
    role: 'primary' | 'standby';
    epoch: number;
    mirrors: readonly string[];
    bufferBytes: number;
    sparse: boolean;
    /** An asynchronous mirror besides. */
    follower?: string | undefined;
    /** The volume has a record at the arbiter. */
    arbitrated: boolean;
    /** What the promoted copy misses is given up. */
    acceptDataLoss?: boolean;
    /** Of the mirrors' addresses; every one leads to the node. */
    port?: number;
  },
): VolumeSpec {
  return volumeSpecSchema.parse({
    size: volumeBytes,
    pool: 'main',
    role: shape.role,
    epoch: shape.epoch,
    uid: 'u',
    ...(shape.arbitrated ? { arbiterKey: volumeName, onLoss: 'continue' } : {}),
    ...(shape.acceptDataLoss ? { acceptDataLoss: true } : {}),
    provisioning: shape.sparse ? 'sparse' : 'thick',
    mirrors: [
      ...shape.mirrors.map((name) => ({ name, address: `${name}:${shape.port ?? 1}`, mode: 'synchronous' })),
      ...(shape.follower === undefined
        ? []
        : [
            {
              name: shape.follower,
              address: `${shape.follower}:${shape.port ?? 1}`,
              mode: 'asynchronous',
              journal: { capacity: journalBytes },
            },
          ]),
    ],
    ...(shape.bufferBytes > 0 ? { buffer: { pool: 'buffer', capacity: shape.bufferBytes, maxSnapshots } } : {}),
  });
}
