import { rmdir } from 'node:fs/promises';
import { errorCode, errorMessage, systemErrorCode } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { AttachmentJournal, AttachmentRecord, MountRecord } from './attachment-journal.ts';
import type { Attachments } from './attachments.ts';
import type { Commands } from './commands.ts';
import { removeMountPoint } from './mount-point.ts';
import { busyError, forceUnmount, isMounted, unmount } from './unmounting.ts';

export interface TeardownOptions {
  readonly journal: AttachmentJournal;
  readonly attachments: Attachments;
  readonly commands: Commands;
  readonly log: Log;
  readonly workDirectory: (attachment: string) => string;
}

/**
 * Undoes mounts. Gently: nothing is lost, and whoever still uses it prevents it. Forcibly: for what is dead or never got
 * ready; whoever still uses it gets errors. Callers hold the volume's lock.
 */
export class Teardown {
  readonly #options: TeardownOptions;

  constructor(options: TeardownOptions) {
    this.#options = options;
  }

  /**
   * Whether a mount is what its record says: finished, visible at its place, and its device works.
   * @throws UnderstudyError NotReady while that cannot be told, because its I/O waits
   */
  async isIntact(record: MountRecord): Promise<boolean> {
    const { journal, attachments } = this.#options;
    const attachment = journal.findAttachment(record.attachment ?? '');
    if (record.state !== 'mounted' || attachment?.device === undefined) return false;
    const condition = await attachments.condition(attachment);
    if (condition === 'waiting') throw attachments.waitingError(attachment);
    return condition === 'alive' && (await isMounted(record.mountPoint, [attachment.device]));
  }

  /**
   * @throws UnderstudyError InUse, naming the processes that hold it; NotReady while its I/O waits, and what is not
   *   written yet would be lost. The record then stays, and it can be tried again.
   */
  async gently(record: MountRecord): Promise<void> {
    const { journal, attachments, commands } = this.#options;
    const attachment = journal.findAttachment(record.attachment ?? '');
    const condition = attachment && (await attachments.condition(attachment));
    if (attachment && condition === 'waiting') throw attachments.waitingError(attachment);
    if (condition === 'lost' && record.state !== 'unmounting') {
      await this.forcibly(record);
      return;
    }
    await journal.putMount({ ...record, state: 'unmounting' });
    if (attachment) {
      const devices = await attachments.devicesOf(attachment);
      try {
        for (const device of devices) await unmount(commands, record.mountPoint, device);
      } catch (error) {
        await journal.putMount(record);
        throw error;
      }
      if (this.#usersOf(attachment).length <= 1) await this.#detach(attachment, devices[0]);
    }
    await this.#forget(record);
  }

  async #detach(attachment: AttachmentRecord, device: string | undefined): Promise<void> {
    try {
      await this.#options.attachments.detach(attachment);
    } catch (error) {
      if (errorCode(error) !== 'InUse' || device === undefined) throw error;
      throw await busyError(`${device} cannot be detached from volume ${attachment.volume}`, device, error);
    }
  }

  /** Undoes one mount; and its device with it, unless another mount uses that. */
  async forcibly(record: MountRecord): Promise<void> {
    const { journal } = this.#options;
    const attachment = journal.findAttachment(record.attachment ?? '');
    if (attachment === undefined) {
      await this.#forget(record);
    } else if (this.#usersOf(attachment).some((user) => user.mount !== record.mount)) {
      await this.#forceUnmount(record, attachment);
      await this.#forget(record);
    } else {
      await this.attachment(attachment);
    }
  }

  /** Undoes an attachment with all mounts that use it. */
  async attachment(attachment: AttachmentRecord): Promise<void> {
    const { attachments, commands, log, workDirectory } = this.#options;
    // First of all: with its I/O failing, nothing that follows can wait for it.
    await attachments.cut(attachment);
    const users = this.#usersOf(attachment);
    for (const user of users) await this.#forceUnmount(user, attachment);
    const work = workDirectory(attachment.name);
    await forceUnmount(commands, log, work, await attachments.devicesOf(attachment));
    await removeDirectory(work);
    await attachments.abandon(attachment);
    for (const user of users) await this.#forget(user);
  }

  async #forceUnmount(record: MountRecord, attachment: AttachmentRecord): Promise<void> {
    const { attachments, commands, log } = this.#options;
    await forceUnmount(commands, log, record.mountPoint, await attachments.devicesOf(attachment));
  }

  /** Undoes what a failed attempt has left, with care for what may have been written; never fails. */
  async afterFailure(record: MountRecord): Promise<void> {
    const { journal, log } = this.#options;
    for (const undo of [this.gently, this.forcibly]) {
      const newest = journal.findMount(record.volume, record.mount);
      if (newest === undefined) return;
      try {
        await undo.call(this, newest);
        return;
      } catch (error) {
        log.warn({ volume: record.volume, mount: record.mount }, `not undone yet: ${errorMessage(error)}`);
      }
    }
  }

  #usersOf(attachment: AttachmentRecord): MountRecord[] {
    return this.#options.journal.mounts.filter((record) => record.attachment === attachment.name);
  }

  async #forget(record: MountRecord): Promise<void> {
    await removeMountPoint(record.created);
    await this.#options.journal.removeMount(record);
  }
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
}
