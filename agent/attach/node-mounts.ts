/**
 * The mounts of this node: live volumes, snapshots, and live volumes as raw block devices.
 *
 * Each mount is a record in the journal from before its first step until its last trace is gone. Work on one volume is
 * done one after the other. Recovery undoes every mount whose device did not survive the previous agent; with the `fuse`
 * driver that is all of them, with the `nbd` driver those whose volume is no primary of the same uid and epoch any more.
 * It must have run before anything is mounted, and needs volumes that are loaded, since it releases scratch overlays.
 *
 * Afterwards attachments are looked after: a device whose connection has died is connected again, and one whose volume
 * has been fenced, or is primary elsewhere, is taken away from whoever uses it.
 */
import { mkdir, readdir, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Timer } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { MountView, SnapshotMount, VolumeMount } from '../api/contract/mounts.ts';
import { KeyedLock } from '../core/keyed-lock.ts';
import type { StorageDirectory } from '../core/storage.ts';
import type { MountService } from '../volume/mount-service.ts';
import type { NodeAttachments } from '../volume/node-attachments.ts';
import { AttachmentJournal, type AttachmentRecord, type MountRecord } from './attachment-journal.ts';
import { Attachments } from './attachments.ts';
import type { Commands } from './commands.ts';
import type { AttachDriver } from './driver.ts';
import type { ExportSource } from './export-source.ts';
import { readMounts } from './host-state.ts';
import { checkOptions } from './mount-options.ts';
import { createMountPoint, resolveMountPoint } from './mount-point.ts';
import { mountedAt } from './mount-table.ts';
import { MountQuiescer, type Quiesced, type Quiescer } from './quiescer.ts';
import { Staging } from './staging.ts';
import { Teardown } from './teardown.ts';
import { thaw } from './unmounting.ts';

export interface NodeMountsOptions {
  readonly source: ExportSource;
  /** Makes new devices; see chooseDriver. */
  readonly driver: AttachDriver;
  /** Every driver that an earlier agent may have used on this node; `driver` need not be repeated. */
  readonly otherDrivers?: readonly AttachDriver[];
  /** Keeps the journal. */
  readonly state: StorageDirectory;
  /** For private mount points, below the agent's run directory; created if needed, and not the driver's directory. */
  readonly workDirectory: string;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
}

/** A live volume as a raw block device. */
export interface DeviceMount {
  /** Path of a file that becomes the device node; made if it is not there. */
  readonly target: string;
  readonly readOnly: boolean;
}

const upkeepIntervalMs = 2_000;

type Wanted = Pick<MountRecord, 'volume' | 'mount' | 'kind' | 'target' | 'readOnly' | 'options'> &
  Partial<Pick<MountRecord, 'snapshot' | 'fsType'>>;

export class NodeMounts implements MountService, NodeAttachments, Quiescer {
  readonly #journal: AttachmentJournal;
  readonly #attachments: Attachments;
  readonly #staging: Staging;
  readonly #teardown: Teardown;
  readonly #quiescer: Quiescer;
  readonly #lock = new KeyedLock();
  readonly #commands: Commands;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #workDirectory: string;
  readonly #lookedAfter = new Set<string>();
  #upkeep: Timer | undefined;
  #closed = false;

  /** Reads the journal. Call recover before anything else. */
  static async open(options: NodeMountsOptions): Promise<NodeMounts> {
    await mkdir(options.workDirectory, { recursive: true, mode: 0o700 });
    const journal = await AttachmentJournal.open(options.state, options.log);
    return new NodeMounts({ ...options, workDirectory: await realpath(options.workDirectory) }, journal);
  }

  private constructor(options: NodeMountsOptions, journal: AttachmentJournal) {
    const { source, driver, commands, clock, log } = options;
    const drivers = [driver, ...(options.otherDrivers ?? []).filter((other) => other.kind !== driver.kind)];
    const workDirectory = (attachment: string) => join(options.workDirectory, attachment);
    const attachments = new Attachments({ source, driver, drivers, journal, log });
    this.#journal = journal;
    this.#attachments = attachments;
    this.#staging = new Staging({ source, journal, attachments, commands, clock, workDirectory });
    this.#teardown = new Teardown({ journal, attachments, commands, log, workDirectory });
    this.#quiescer = new MountQuiescer({ journal, lock: this.#lock, commands, clock, log });
    this.#commands = commands;
    this.#clock = clock;
    this.#log = log;
    this.#workDirectory = options.workDirectory;
  }

  async list(): Promise<MountView[]> {
    return this.#journal.mounts.filter((record) => record.state === 'mounted').map(viewOf);
  }

  async mountVolume(volume: string, mount: string, request: VolumeMount): Promise<MountView> {
    const { target, readOnly, fsType } = request;
    const options = checkOptions(request.options, 'volume');
    const wanted: Wanted = { volume, mount, kind: 'filesystem', target, readOnly, options, fsType };
    return this.#mount(wanted, (record) => this.#staging.filesystem(record, request));
  }

  /** `shared`: mounts of the same snapshot with the same options have one device and scratch view between them. */
  async mountSnapshot(
    volume: string,
    snapshot: string,
    mount: string,
    request: SnapshotMount,
    { shared = false } = {},
  ): Promise<MountView> {
    const options = checkOptions(request.options, 'snapshot');
    const wanted: Wanted = {
      volume,
      mount,
      kind: 'snapshot',
      snapshot,
      target: request.target,
      readOnly: true,
      options,
    };
    return this.#mount(wanted, (record) => this.#staging.snapshot(record, snapshot, { shared }));
  }

  /**
   * Shows the live volume as a raw block device at a path. Idempotent; undone by unmount. Its view has fsType "none".
   * @throws as mountVolume
   */
  async publishDevice(volume: string, mount: string, request: DeviceMount): Promise<MountView> {
    const wanted: Wanted = { volume, mount, kind: 'device', ...request, options: [] };
    return this.#mount(wanted, (record) => this.#staging.device(record));
  }

  /** Shows a snapshot as a raw block device, read-only, at a path. As publishDevice. */
  async publishSnapshotDevice(volume: string, snapshot: string, mount: string, target: string): Promise<MountView> {
    const wanted: Wanted = { volume, mount, kind: 'snapshotDevice', snapshot, target, readOnly: true, options: [] };
    return this.#mount(wanted, (record) => this.#staging.snapshotDevice(record, snapshot));
  }

  /**
   * Makes the device of a live mount, and its filesystem, as large as the volume is now. Idempotent.
   * @throws UnderstudyError NotFound, NotReady, ReadOnly, Io
   */
  grow(volume: string, mount: string): Promise<{ sizeBytes: number }> {
    return this.#lock.run(volume, async () => {
      const record = this.#journal.findMount(volume, mount);
      if (record === undefined) throw new UnderstudyError('NotFound', `volume ${volume} has no mount "${mount}"`);
      if (await this.#teardown.isIntact(record)) return this.#staging.grow(record);
      throw new UnderstudyError('NotReady', `mount "${mount}" of volume ${volume} does not work: mount it again`);
    });
  }

  unmount(volume: string, mount: string): Promise<void> {
    return this.#lock.run(volume, async () => {
      const record = this.#journal.findMount(volume, mount);
      if (record) await (record.state === 'staging' ? this.#teardown.forcibly(record) : this.#teardown.gently(record));
      await this.#abandonUnusedScratch(volume);
    });
  }

  freeze(volume: string, options: { timeoutMs: number }): Promise<Quiesced> {
    return this.#quiescer.freeze(volume, options);
  }

  /** Whether the live volume, not a snapshot of it, is attached here or in the middle of it. */
  isAttached(volume: string): boolean {
    return this.#journal.attachments.some((record) => record.volume === volume && !record.scratch);
  }

  lastingDevices(volume: string): number {
    const live = this.#journal.attachments.filter((record) => record.volume === volume && !record.scratch);
    return live.filter((record) => this.#attachments.survivesRestart(record)).length;
  }

  /**
   * Takes the live volume's device away from whoever uses it: for a copy that has been fenced and must not be used any
   * more. Once it completes, nothing that was written to the device can reach the volume any more.
   */
  evict(volume: string): Promise<void> {
    return this.#lock.run(volume, async () => {
      for (const record of this.#journal.attachments) {
        if (record.volume === volume && !record.scratch) await this.#teardown.attachment(record);
      }
    });
  }

  /** Takes the snapshots of a volume away from whoever has them mounted: a backup that is to end gets errors. */
  takeSnapshotsAway(volume: string): Promise<void> {
    return this.#lock.run(volume, async () => {
      for (const record of this.#journal.attachments) {
        if (record.volume === volume && record.scratch) await this.#teardown.attachment(record);
      }
    });
  }

  /** Undoes what an earlier agent left and that does not work any more. What cannot be undone now is logged and kept. */
  async recover(): Promise<void> {
    for (const attachment of this.#journal.attachments) {
      await this.#recovering(attachment.volume, async () => {
        const users = this.#journal.mounts.filter((record) => record.attachment === attachment.name);
        const survivor = users.length > 0 && this.#attachments.survivesRestart(attachment);
        const kept = survivor && (await this.#attachments.condition(attachment)) !== 'lost';
        if (!kept) await this.#teardown.attachment(attachment);
      });
    }
    for (const record of this.#journal.mounts) {
      await this.#recovering(record.volume, async () => {
        if (await this.#teardown.isIntact(record)) await thaw(this.#commands, record.mountPoint);
        else if (record.state === 'unmounting') await this.#teardown.gently(record);
        else await this.#teardown.forcibly(record);
      });
    }
    await this.#attachments.abandonUnknown();
    await this.#removeWorkDirectories();
    this.#scheduleUpkeep();
  }

  #scheduleUpkeep(): void {
    if (this.#closed) return;
    this.#upkeep = this.#clock.after(upkeepIntervalMs, () => {
      for (const attachment of this.#journal.attachments) void this.#lookAfter(attachment);
      this.#scheduleUpkeep();
    });
  }

  /** One that is being looked after already is left alone: a volume that hangs must not pile up work. */
  async #lookAfter({ name, volume }: AttachmentRecord): Promise<void> {
    if (this.#lookedAfter.has(name)) return;
    this.#lookedAfter.add(name);
    try {
      const found = this.#inUse(name);
      const isBound = found === undefined || (await this.#attachments.isBound(found));
      await this.#recovering(volume, async () => {
        const attachment = this.#closed ? undefined : this.#inUse(name);
        if (attachment === undefined) return;
        const survives = this.#attachments.survivesRestart(attachment);
        if (isBound && !(survives && (await this.#attachments.condition(attachment)) === 'lost')) return;
        this.#log.warn({ volume, device: attachment.device }, 'taking the device away: this copy must not be used');
        await this.#teardown.attachment(attachment);
      });
    } catch (error) {
      this.#log.warn({ volume, attachment: name }, `cannot be looked after: ${errorMessage(error)}`);
    } finally {
      this.#lookedAfter.delete(name);
    }
  }

  /** An attachment of a finished mount: others are in the middle of being made or undone. */
  #inUse(name: string): AttachmentRecord | undefined {
    const used = this.#journal.mounts.some((record) => record.attachment === name && record.state === 'mounted');
    return used ? this.#journal.findAttachment(name) : undefined;
  }

  async #recovering(volume: string, task: () => Promise<void>): Promise<void> {
    try {
      await this.#lock.run(volume, task);
    } catch (error) {
      // One that waits is complete in its way, and has been logged.
      if (errorCode(error) === 'NotReady') return;
      this.#log.error({ volume }, `recovery of its mounts is not complete: ${errorMessage(error)}`);
    }
  }

  /**
   * For an orderly end of the agent: unmounts what would not survive it, as far as nobody uses it, so that file systems
   * are left clean. The rest is for the next agent's recovery.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#upkeep?.cancel();
    for (const record of this.#journal.mounts) {
      const attachment = this.#journal.findAttachment(record.attachment ?? '');
      if (attachment && this.#attachments.survivesRestart(attachment)) continue;
      try {
        await this.unmount(record.volume, record.mount);
      } catch (error) {
        this.#log.warn({ volume: record.volume, mount: record.mount }, `left mounted: ${errorMessage(error)}`);
      }
    }
    this.#attachments.close();
  }

  /** What all kinds of mounts have in common: once per name and target, recorded, undone if it fails. */
  #mount(wanted: Wanted, stage: (record: MountRecord) => Promise<MountRecord>): Promise<MountView> {
    return this.#lock.run(wanted.volume, async () => {
      const known = this.#journal.findMount(wanted.volume, wanted.mount);
      if (known) refuseOther(known, wanted);
      if (known && (await this.#teardown.isIntact(known))) return viewOf(known);
      await this.#clearBroken(wanted);
      const record = await this.#begin(wanted);
      try {
        await createMountPoint({ path: record.mountPoint, missing: record.created }, kindOfTarget(wanted));
        const mounted = viewOf(await stage(record));
        this.#log.info({ ...mounted }, 'mounted');
        return mounted;
      } catch (error) {
        await this.#teardown.afterFailure(record);
        throw error;
      }
    });
  }

  /** Undoes mounts of the volume that are not what they should be, and what an earlier attempt of this one has left. */
  async #clearBroken({ volume, mount }: Wanted): Promise<void> {
    for (const record of this.#journal.mounts.filter((other) => other.volume === volume)) {
      if (record.state === 'unmounting') {
        if (record.mount === mount) await this.#teardown.gently(record);
      } else if (!(await this.#teardown.isIntact(record))) {
        this.#log.warn({ volume, mount: record.mount }, 'undoing a mount that does not work any more');
        await this.#teardown.forcibly(record);
      }
    }
    await this.#abandonUnusedScratch(volume);
  }

  /** Undoes attachments of snapshots that no mount uses (any more). Work on one volume is done one after the other. */
  async #abandonUnusedScratch(volume: string): Promise<void> {
    for (const record of this.#journal.attachments) {
      if (record.volume !== volume || record.scratch === undefined) continue;
      const used = this.#journal.mounts.some((mount) => mount.attachment === record.name);
      if (!used) await this.#teardown.attachment(record);
    }
  }

  /** Reserves name and target. @throws UnderstudyError InUse */
  async #begin(wanted: Wanted): Promise<MountRecord> {
    this.#refuseMixedUse(wanted);
    const point = await resolveMountPoint(wanted.target, kindOfTarget(wanted));
    const onTop = mountedAt(await readMounts(), point.path);
    if (onTop) {
      throw new UnderstudyError(
        'InUse',
        `${wanted.target} is a mount point already, of ${onTop.fsType} ${onTop.source}`,
      );
    }
    // No await between the look and the entry: two requests for one target must not both find it free.
    const taken = this.#journal.mounts.find((record) => record.mountPoint === point.path);
    if (taken) {
      throw new UnderstudyError(
        'InUse',
        `${wanted.target} is taken by mount "${taken.mount}" of volume ${taken.volume}`,
      );
    }
    const record: MountRecord = { ...wanted, mountPoint: point.path, created: [...point.missing], state: 'staging' };
    await this.#journal.putMount(record);
    return record;
  }

  /** @throws UnderstudyError InUse: a filesystem and whoever writes to the device below it would destroy each other. */
  #refuseMixedUse({ volume, kind }: Wanted): void {
    if (isOfSnapshot(kind)) return;
    const other = this.#journal.mounts.find(
      (record) => record.volume === volume && !isOfSnapshot(record.kind) && record.kind !== kind,
    );
    if (!other) return;
    const use = other.kind === 'device' ? 'as a raw device' : 'with its filesystem';
    throw new UnderstudyError('InUse', `volume ${volume} is used ${use} at ${other.target}`);
  }

  async #removeWorkDirectories(): Promise<void> {
    for (const name of await readdir(this.#workDirectory)) {
      const inUse = this.#journal.findAttachment(name) !== undefined;
      if (!inUse) await rmdir(join(this.#workDirectory, name)).catch(() => {});
    }
  }
}

function kindOfTarget({ kind }: { kind: MountRecord['kind'] }): 'directory' | 'file' {
  return kind === 'device' || kind === 'snapshotDevice' ? 'file' : 'directory';
}

function isOfSnapshot(kind: MountRecord['kind']): boolean {
  return kind === 'snapshot' || kind === 'snapshotDevice';
}

/** @throws UnderstudyError Conflict when a mount of that name is something else. */
function refuseOther(known: MountRecord, wanted: Wanted): void {
  const differs = (['kind', 'snapshot', 'target', 'readOnly'] as const).find((key) => known[key] !== wanted[key]);
  const otherType = wanted.kind === 'filesystem' && known.fsType !== wanted.fsType;
  const otherOptions = known.options.join() !== wanted.options.join();
  if (differs === undefined && !otherType && !otherOptions) return;
  const what = differs ?? (otherType ? 'fsType' : 'options');
  throw new UnderstudyError(
    'Conflict',
    `mount "${known.mount}" of volume ${known.volume} is there already, at ${known.target}, with another ${what}: ` +
      'unmount it first, or choose another name',
  );
}

function viewOf(record: MountRecord): MountView {
  return {
    mount: record.mount,
    volume: record.volume,
    ...(record.snapshot === undefined ? {} : { snapshot: record.snapshot }),
    target: record.target,
    device: record.device ?? '',
    fsType: record.fsType ?? 'none',
    readOnly: record.readOnly,
  };
}
