import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { type FsType, fsTypeSchema } from '../api/contract/mounts.ts';
import type { AttachmentJournal, MountRecord } from './attachment-journal.ts';
import { type Attached, type Attachments, isAttached } from './attachments.ts';
import type { Commands } from './commands.ts';
import type { ExportSource } from './export-source.ts';
import { format, growFilesystem, probe } from './filesystem.ts';
import { bindMount, mountFilesystem, mountSnapshotFilesystem, refuseBtrfsTwin } from './filesystem-mount.ts';

export interface StagingOptions {
  readonly source: ExportSource;
  readonly journal: AttachmentJournal;
  readonly attachments: Attachments;
  readonly commands: Commands;
  readonly clock: Clock;
  /** Where the journal of a snapshot's filesystem is replayed. */
  readonly workDirectory: (attachment: string) => string;
}

/**
 * The steps that make a mount of a record. Each step that leaves something behind is in the journal first; what remains
 * after a failure is the caller's to undo. Each returns the record of the finished mount.
 */
export class Staging {
  readonly #options: StagingOptions;

  constructor(options: StagingOptions) {
    this.#options = options;
  }

  /** Mounts the live volume's filesystem, made first if asked and if the volume is blank. */
  async filesystem(record: MountRecord, request: { fsType: FsType; format: boolean }): Promise<MountRecord> {
    const { attachments, commands } = this.#options;
    const sibling = this.#sibling(record);
    // Writable even for a read-only mount: after a crash the kernel has to replay the filesystem's journal.
    const attached = await attachments.attachLive(record.volume, { readOnly: false });
    const staged = await this.#attached(record, attached);
    if (sibling) {
      const { mountPoint, readOnly } = record;
      await bindMount(commands, { from: sibling.mountPoint, mountPoint, readOnly: readOnly && !sibling.readOnly });
    } else {
      await this.#ensureFilesystem(record.volume, attached.device, request);
      await mountFilesystem(commands, { ...record, device: attached.device, fsType: request.fsType });
    }
    return this.#mounted(staged);
  }

  /** Makes the device, and the filesystem of a mount that can be written to, as large as the volume is now. */
  async grow(record: MountRecord): Promise<{ sizeBytes: number }> {
    const { attachments, journal, commands } = this.#options;
    const attachment = journal.findAttachment(record.attachment ?? '');
    if (!attachment || !isAttached(attachment) || attachment.scratch) {
      throw new UnderstudyError('Conflict', `mount "${record.mount}" of volume ${record.volume} cannot grow`);
    }
    const grown = await attachments.grow(attachment);
    if (record.kind !== 'filesystem') return grown;
    const writable = this.#siblings(record).find((other) => !other.readOnly);
    if (!writable) {
      throw new UnderstudyError('ReadOnly', `volume ${record.volume} is mounted read-only: its filesystem cannot grow`);
    }
    const { mountPoint } = writable;
    const fsType = fsTypeSchema.parse(writable.fsType);
    await growFilesystem(commands, { device: attachment.device, fsType, mountPoint });
    return grown;
  }

  /**
   * Mounts a snapshot's filesystem read-only, over a scratch view in which its journal has been replayed. `shared`: a
   * mount of that snapshot with the same options that is there already is shown at a second place instead.
   */
  async snapshot(record: MountRecord, snapshot: string, { shared }: { shared: boolean }): Promise<MountRecord> {
    const sibling = shared ? this.#snapshotSibling(record) : undefined;
    if (sibling) return this.#showAgain(record, sibling);
    const { attachments, commands, workDirectory } = this.#options;
    const attached = await attachments.attachScratch(record.volume, snapshot, record.mount, { shared });
    let staged = await this.#attached(record, attached);
    const signature = await probe(commands, attached.device);
    const fsType = fsTypeSchema.safeParse(signature?.fsType);
    if (!fsType.success) {
      const found = signature?.description ?? 'nothing that is known';
      const message = `snapshot ${snapshot} of volume ${record.volume} holds ${found}, no filesystem that can be mounted`;
      throw new UnderstudyError('Conflict', message);
    }
    if (signature) await refuseBtrfsTwin(signature);
    staged = { ...staged, fsType: fsType.data };
    await mountSnapshotFilesystem(commands, {
      device: attached.device,
      fsType: fsType.data,
      mountPoint: record.mountPoint,
      options: record.options,
      workDirectory: workDirectory(attached.name),
    });
    return this.#mounted(staged);
  }

  async #showAgain(record: MountRecord, sibling: MountRecord): Promise<MountRecord> {
    const { journal, commands } = this.#options;
    const { attachment, device, fsType } = sibling;
    const staged: MountRecord = {
      ...record,
      ...(attachment === undefined ? {} : { attachment }),
      ...(device === undefined ? {} : { device }),
      ...(fsType === undefined ? {} : { fsType }),
    };
    await journal.putMount(staged);
    await bindMount(commands, { from: sibling.mountPoint, mountPoint: record.mountPoint, readOnly: record.readOnly });
    return this.#mounted(staged);
  }

  /** Shows a snapshot as a raw block device that refuses writes. */
  async snapshotDevice(record: MountRecord, snapshot: string): Promise<MountRecord> {
    const { attachments, commands } = this.#options;
    const attached = await attachments.attachScratch(record.volume, snapshot, record.mount, { readOnly: true });
    const staged = await this.#attached(record, attached);
    await bindMount(commands, { from: attached.device, mountPoint: record.mountPoint, readOnly: false });
    return this.#mounted(staged);
  }

  /** Shows the live volume as a raw block device, at a path of the caller's choice. */
  async device(record: MountRecord): Promise<MountRecord> {
    const { attachments, commands } = this.#options;
    const attached = await attachments.attachLive(record.volume, { readOnly: record.readOnly });
    const staged = await this.#attached(record, attached);
    await bindMount(commands, { from: attached.device, mountPoint: record.mountPoint, readOnly: false });
    return this.#mounted(staged);
  }

  async #attached(record: MountRecord, attached: Attached): Promise<MountRecord> {
    const staged: MountRecord = { ...record, attachment: attached.name, device: attached.device };
    await this.#options.journal.putMount(staged);
    return staged;
  }

  async #mounted(record: MountRecord): Promise<MountRecord> {
    const mounted: MountRecord = { ...record, state: 'mounted' };
    await this.#options.journal.putMount(mounted);
    return mounted;
  }

  /** The finished mounts of the same volume and kind. */
  #siblings(record: MountRecord): MountRecord[] {
    const { mounts } = this.#options.journal;
    return mounts.filter(
      ({ volume, kind, state }) => volume === record.volume && kind === record.kind && state === 'mounted',
    );
  }

  #snapshotSibling(record: MountRecord): MountRecord | undefined {
    return this.#siblings(record).find(
      ({ snapshot, options }) => snapshot === record.snapshot && options.join() === record.options.join(),
    );
  }

  /**
   * Another mount of the same live filesystem, which is then shown at a second place.
   * @throws UnderstudyError Conflict when it is mounted in a way that does not allow that.
   */
  #sibling(record: MountRecord): MountRecord | undefined {
    const sibling = this.#siblings(record)[0];
    if (sibling === undefined) return undefined;
    const sameOptions = sibling.options.join() === record.options.join() && sibling.fsType === record.fsType;
    if (sameOptions && (record.readOnly || !sibling.readOnly)) return sibling;
    throw new UnderstudyError(
      'Conflict',
      `volume ${record.volume} is mounted at ${sibling.target} already, with another type or other options; ` +
        `unmount "${sibling.mount}" first`,
    );
  }

  /** @throws UnderstudyError Conflict when the volume holds something else, or is blank and must not be formatted. */
  async #ensureFilesystem(volume: string, device: string, request: { fsType: FsType; format: boolean }): Promise<void> {
    const { source, journal, commands } = this.#options;
    const found = await probe(commands, device);
    if (found?.fsType === request.fsType) {
      // A format writes the signature last: whatever its record says, it was finished.
      if (journal.findFormat(volume)) await journal.removeFormat(volume);
      await refuseBtrfsTwin(found);
      return;
    }
    if (found !== undefined || !(await source.isBlank(volume))) {
      throw this.#notBlank(volume, request.fsType, found?.description);
    }
    if (!request.format) {
      const message = `volume ${volume} is blank: mount it with "format": true to make an ${request.fsType} filesystem`;
      throw new UnderstudyError('Conflict', message);
    }
    await this.#format(volume, device, request.fsType);
  }

  #notBlank(volume: string, fsType: FsType, found: string | undefined): UnderstudyError {
    const unfinished = this.#options.journal.findFormat(volume);
    const labels = { volume, ...(found === undefined ? {} : { found }) };
    if (found === undefined && unfinished) {
      return new UnderstudyError(
        'Conflict',
        `volume ${volume} holds no ${fsType} filesystem but is not blank: making one (${unfinished.fsType}) was begun ` +
          `at ${unfinished.begunAt} and not finished. A volume that is not blank is never formatted; if nothing else was ` +
          'written to it since, fill it with zeroes over its NBD export, or create it anew',
        { labels },
      );
    }
    const holds = found ?? 'data without a known signature';
    const message = `volume ${volume} holds ${holds}, not ${fsType}: a volume that holds anything is never formatted`;
    return new UnderstudyError('Conflict', message, { labels });
  }

  async #format(volume: string, device: string, fsType: FsType): Promise<void> {
    const { source, journal, commands, clock } = this.#options;
    await journal.putFormat({ volume, fsType, begunAt: new Date(clock.wallTimeMs()).toISOString() });
    try {
      await format(commands, device, fsType);
    } catch (error) {
      if (await source.isBlank(volume)) await journal.removeFormat(volume);
      throw error;
    }
    await journal.removeFormat(volume);
  }
}
