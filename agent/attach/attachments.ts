import { randomBytes } from 'node:crypto';
import { type ErrorCode, errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { AttachmentJournal, AttachmentRecord } from './attachment-journal.ts';
import type { AttachDriver } from './driver.ts';
import type { AttachableExport, ExportSource } from './export-source.ts';

/** An attachment that is in place. */
export type Attached = AttachmentRecord & { readonly device: string };

/**
 * alive: I/O reaches the volume. waiting: I/O waits, for it may reach the volume again. lost: it never will.
 */
export type Condition = 'alive' | 'waiting' | 'lost';

export interface AttachmentsOptions {
  readonly source: ExportSource;
  /** Makes new attachments. */
  readonly driver: AttachDriver;
  /** All drivers that may have made earlier ones, `driver` included. */
  readonly drivers: readonly AttachDriver[];
  readonly journal: AttachmentJournal;
  readonly log: Log;
  /** A part of a name that never comes twice. */
  readonly uniquePart?: () => string;
}

/**
 * The block devices of volumes and snapshots. A live volume has one device, however often it is mounted: two would be
 * two caches over one disk. A snapshot has one per mount, each over a scratch overlay of its own.
 *
 * Callers hold the volume's lock.
 */
export class Attachments {
  readonly #source: ExportSource;
  readonly #driver: AttachDriver;
  readonly #drivers: readonly AttachDriver[];
  readonly #journal: AttachmentJournal;
  readonly #log: Log;
  readonly #uniquePart: () => string;
  /** Why devices wait, each reason logged once. */
  readonly #reasons = new Map<string, string>();

  constructor(options: AttachmentsOptions) {
    this.#source = options.source;
    this.#driver = options.driver;
    this.#drivers = options.drivers;
    this.#journal = options.journal;
    this.#log = options.log;
    this.#uniquePart = options.uniquePart ?? (() => randomBytes(6).toString('hex'));
  }

  /** The device of the live volume, attached now if it is not yet. @throws what liveExport and the driver throw; ReadOnly */
  async attachLive(volume: string, options: { readOnly: boolean }): Promise<Attached> {
    const present = this.#journal.attachments.find((record) => record.volume === volume && !record.scratch);
    if (present) {
      const condition = await this.condition(present);
      if (isAttached(present) && condition === 'alive') return sameAccess(present, options);
      if (condition === 'waiting') throw this.waitingError(present);
      await this.abandon(present);
    }
    await this.#source.catchUp?.(volume);
    const target = await this.#source.liveExport(volume);
    if (target.readOnly && !options.readOnly) {
      throw new UnderstudyError('ReadOnly', `volume ${volume} can be attached read-only only`);
    }
    const record = this.#newRecord({ volume, readOnly: options.readOnly, ...target.binding });
    await this.#journal.putAttachment(record);
    return this.#attach(record, { ...target, readOnly: options.readOnly });
  }

  /**
   * A new device over a scratch view of a snapshot. `shared`: more mounts than this one may come to use it, so the view
   * has a name of its own. @throws what openScratch and the driver throw
   */
  async attachScratch(
    volume: string,
    snapshot: string,
    mount: string,
    { readOnly = false, shared = false } = {},
  ): Promise<Attached> {
    const user = shared ? `${mount}.${this.#uniquePart()}` : mount;
    const record = this.#newRecord({ volume, readOnly, scratch: { snapshot, mount: user } });
    await this.#journal.putAttachment(record);
    try {
      const target = await this.#source.openScratch(volume, snapshot, user);
      return await this.#attach(record, { ...target, readOnly });
    } catch (error) {
      await this.#abandonQuietly(record);
      throw error;
    }
  }

  #newRecord(record: Omit<AttachmentRecord, 'name' | 'driver'>): AttachmentRecord {
    const name = `${record.volume.slice(0, 64)}-${this.#uniquePart()}`;
    return { ...record, name, driver: this.#driver.kind };
  }

  async #attach(record: AttachmentRecord, target: AttachableExport): Promise<Attached> {
    try {
      const { device } = await this.#driver.attach(target, { name: record.name });
      const attached = { ...record, device };
      await this.#journal.putAttachment(attached);
      return attached;
    } catch (error) {
      await this.#abandonQuietly(record);
      throw error;
    }
  }

  /** Undoes an attachment that nothing of ours uses any more. @throws InUse */
  async detach(record: AttachmentRecord): Promise<void> {
    await this.#driverOf(record)?.detach(record.name);
    await this.#forget(record);
  }

  /** Undoes an attachment that is of no use any more; what others keep open of it is dead. Resolves with these devices. */
  async abandon(record: AttachmentRecord): Promise<{ remaining: string[] }> {
    const result = (await this.#driverOf(record)?.abandon(record.name)) ?? { remaining: [] };
    if (result.remaining.length > 0) {
      this.#log.warn({ volume: record.volume, devices: result.remaining }, 'others keep a dead device open');
    }
    await this.#forget(record);
    return result;
  }

  /** Makes a device as large as its volume is now. @throws what liveExport throws; NotReady where it cannot grow in use */
  async grow(record: Attached): Promise<{ sizeBytes: number }> {
    const target = await this.#source.liveExport(record.volume);
    await this.#driverOf(record)?.grow?.(target, { name: record.name });
    return { sizeBytes: target.sizeBytes };
  }

  /** See AttachDriver.cut. */
  async cut(record: AttachmentRecord): Promise<void> {
    await this.#driverOf(record)?.cut(record.name);
  }

  /** The devices there are of an attachment, also one that was never finished. */
  async devicesOf(record: AttachmentRecord): Promise<readonly string[]> {
    const present = (await this.#driverOf(record)?.list())?.find(({ name }) => name === record.name);
    return present?.devices ?? [];
  }

  /** Tries to connect a device again whose connection has died, where the driver can do that. */
  async condition(record: AttachmentRecord): Promise<Condition> {
    const driver = this.#driverOf(record);
    const present = (await driver?.list())?.find(({ name }) => name === record.name);
    if (record.device === undefined || !present?.devices.includes(record.device)) return 'lost';
    if (present.alive) return 'alive';
    if (driver?.reconnect === undefined || !(await this.isBound(record))) return 'lost';
    try {
      const target = await this.#exportOf(record);
      await driver.reconnect({ ...target, readOnly: record.readOnly }, { name: record.name });
      this.#reasons.delete(record.name);
      return 'alive';
    } catch (error) {
      const waits = mayPass.has(errorCode(error));
      const reason = `${waits ? 'its I/O waits' : 'it is of no use any more'}: ${errorMessage(error)}`;
      const { volume, name, device } = record;
      if (this.#reasons.get(name) !== reason) this.#log.warn({ volume, attachment: name, device }, reason);
      this.#reasons.set(name, reason);
      return waits ? 'waiting' : 'lost';
    }
  }

  #exportOf({ volume, scratch }: AttachmentRecord): Promise<AttachableExport> {
    if (scratch) return this.#source.openScratch(volume, scratch.snapshot, scratch.mount);
    return this.#source.liveExport(volume);
  }

  /** Whether the copy here is still the primary of the volume and epoch that a live device was made for. */
  async isBound(record: AttachmentRecord): Promise<boolean> {
    if (record.scratch || record.epoch === undefined) return true;
    const binding = await this.#source.liveBinding(record.volume);
    return binding !== undefined && binding.epoch === record.epoch && binding.uid === record.uid;
  }

  waitingError({ volume, name, device }: AttachmentRecord): UnderstudyError {
    const reason = this.#reasons.get(name) ?? 'its I/O waits';
    return new UnderstudyError('NotReady', `volume ${volume}, attached as ${device}: ${reason}`);
  }

  /** Lets go of what looking after attachments needs; they stay. */
  close(): void {
    for (const driver of this.#drivers) driver.close?.();
  }

  survivesRestart(record: AttachmentRecord): boolean {
    return this.#driverOf(record)?.survivesRestart ?? false;
  }

  /** Undoes what is there on the machine and in no record, because the journal was lost. */
  async abandonUnknown(): Promise<void> {
    for (const driver of this.#drivers) {
      const names = (await driver.list()).map(({ name }) => name);
      for (const name of names.filter((known) => this.#journal.findAttachment(known) === undefined)) {
        const { remaining } = await driver.abandon(name);
        this.#log.warn({ attachment: name, remaining }, 'undid an attachment of which there was no record');
      }
    }
  }

  async #abandonQuietly(record: AttachmentRecord): Promise<void> {
    try {
      await this.abandon(record);
    } catch (error) {
      // The record stays, so the next unmount, mount or start of the agent tries again.
      this.#log.warn({ volume: record.volume, attachment: record.name }, `not undone yet: ${errorMessage(error)}`);
    }
  }

  async #forget(record: AttachmentRecord): Promise<void> {
    if (record.scratch) await this.#releaseScratch(record.volume, record.scratch);
    this.#reasons.delete(record.name);
    await this.#journal.removeAttachment(record.name);
  }

  async #releaseScratch(volume: string, scratch: { snapshot: string; mount: string }): Promise<void> {
    try {
      await this.#source.releaseScratch(volume, scratch.snapshot, scratch.mount);
    } catch (error) {
      // A volume or snapshot that has gone has taken its overlays with it.
      if (errorCode(error) !== 'NotFound') throw error;
    }
  }

  #driverOf(record: AttachmentRecord): AttachDriver | undefined {
    return this.#drivers.find((driver) => driver.kind === record.driver);
  }
}

/** What keeps an export from being reached now, and may not do so later. */
const mayPass: ReadonlySet<ErrorCode> = new Set(['NotReady', 'Unavailable', 'Timeout', 'Closed', 'Protocol']);

export function isAttached(record: AttachmentRecord): record is Attached {
  return record.device !== undefined;
}

function sameAccess(record: Attached, options: { readOnly: boolean }): Attached {
  if (record.readOnly === options.readOnly) return record;
  const [is, asked] = record.readOnly ? ['read-only', 'writable'] : ['writable', 'read-only'];
  throw new UnderstudyError('Conflict', `volume ${record.volume} is attached ${is} already; it cannot be ${asked} too`);
}
