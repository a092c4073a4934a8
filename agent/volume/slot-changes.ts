import { type Clock, delay } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeSpec } from '../api/contract/volumes.ts';
import { CowDevice } from '../cow/cow-device.ts';
import { DiskDirectory } from '../store/disk-directory.ts';
import type { NodeAttachments } from './node-attachments.ts';
import type { Pools } from './pools.ts';
import { growthAdvice } from './put-off-growth.ts';
import type { SnapshotUsers } from './snapshot-users.ts';
import { checkUnused } from './unused.ts';
import { planChange, type VolumeChange } from './volume-change.ts';
import { loadRecord, saveRecord, type VolumeRecord } from './volume-record.ts';
import type { VolumeSlot } from './volume-slot.ts';

/** How long mounted snapshots may take to be taken away. */
const takeAwayMs = 10_000;

export interface SlotChangesOptions {
  readonly pools: Pools;
  readonly clock: Clock;
  readonly log: Log;
  readonly users: () => SnapshotUsers;
  readonly attachments: () => NodeAttachments;
}

/**
 * Carries changes of a volume out: in the running thread where that can be done under its layers, otherwise with the
 * layers built anew over a changed record. The caller sees to it that a volume is changed once at a time.
 */
export class SlotChanges {
  readonly #where: SlotChangesOptions;

  constructor(where: SlotChangesOptions) {
    this.#where = where;
  }

  /** @throws UnderstudyError InUse, Conflict, Invalid: then the volume is as it was */
  async apply(slot: VolumeSlot, { kind, record: asked }: VolumeChange, spec: VolumeSpec): Promise<void> {
    if (kind === 'live' && slot.running) return slot.host.call('changeLive', asked);
    if (kind === 'none' && slot.running) return;
    const readersEnd = spec.readers === 'disconnect' && (await slot.record()).role !== spec.role;
    if (readersEnd) await this.#takeSnapshotsAway(slot.volume);
    if (kind === 'role' && slot.running && (await this.#changeRole(slot, spec))) return;
    if (kind === 'restart') {
      const lastingDevices = asked.role === 'primary' ? this.#where.attachments().lastingDevices(slot.volume) : 0;
      const users = readersEnd ? undefined : this.#where.users();
      const grows = asked.size > (await slot.record()).size;
      const [what, advice] = grows ? ['enlarged', { advice: growthAdvice }] : ['changed in this way', {}];
      await checkUnused(slot, what, { users, lastingDevices, ...advice });
    }
    const stopped = await slot.stop();
    const where = this.#where.pools.folderOf(asked.pool, slot.volume);
    const folder = await DiskDirectory.open(where);
    // What the copy is worth may have changed until it had stopped, and a thread that died has left no word: the disk knows.
    const before = (await loadRecord(folder, where)) ?? stopped;
    let record = before;
    try {
      const changed = planChange(slot.volume, before, spec).record;
      if (before.buffer && !changed.buffer) await this.#dropBuffer(before, folder);
      await saveRecord(folder, changed);
      record = changed;
    } finally {
      await slot.start(record);
    }
  }

  /** What cannot be taken away in time must not hold up whoever is to write here. */
  async #takeSnapshotsAway(volume: string): Promise<void> {
    const taken = this.#where
      .attachments()
      .takeSnapshotsAway(volume)
      .catch((error: unknown) => {
        this.#where.log.warn({ volume, error: errorMessage(error) }, 'mounted snapshots could not be taken away');
      });
    await Promise.race([taken, delay(this.#where.clock, takeAwayMs)]);
  }

  /** @returns false if it could not be done under its layers, so that these have to be built anew */
  async #changeRole(slot: VolumeSlot, spec: VolumeSpec): Promise<boolean> {
    const { attached } = await slot.view();
    if (attached) {
      const what = `volume ${slot.volume} cannot change its role while it has clients of its live export`;
      throw new UnderstudyError('InUse', `${what}; unmount or disconnect them first`);
    }
    try {
      await slot.host.call('changeRole', spec);
      return true;
    } catch (error) {
      const code = errorCode(error);
      if (code === 'Conflict' || code === 'Invalid') throw error;
      this.#where.log.error({ volume: slot.volume, error: errorMessage(error) }, 'its layers are built anew');
      return false;
    }
  }

  async #dropBuffer({ buffer, volume }: VolumeRecord, data: DiskDirectory): Promise<void> {
    if (!buffer) return;
    await CowDevice.destroy(await DiskDirectory.open(this.#where.pools.folderOf(buffer.pool, volume)), volume, data);
    await this.#where.pools.remove(buffer.pool, volume);
  }
}
