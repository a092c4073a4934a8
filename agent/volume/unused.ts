import { UnderstudyError } from '../../common/errors.ts';
import { type SnapshotUsers, withSnapshotUsers } from './snapshot-users.ts';
import type { VolumeSlot } from './volume-slot.ts';

export interface Disregarded {
  /** Of snapshots; undefined: these do not matter. */
  readonly users: SnapshotUsers | undefined;
  /** So many devices of the live volume whose I/O can wait, and does not fail, while the volume is not served. */
  readonly lastingDevices?: number;
  /** What to do about clients of the live volume, where that is more than to end them. */
  readonly advice?: string;
}

/**
 * Before a volume is stopped.
 * @throws UnderstudyError InUse while anybody uses the live volume, or one of its snapshots, who would notice
 */
export async function checkUnused(slot: VolumeSlot, what: string, disregarded: Disregarded): Promise<void> {
  const { users, lastingDevices = 0 } = disregarded;
  const view = await slot.view();
  const { snapshots } = users === undefined ? { snapshots: [] } : withSnapshotUsers(users, view);
  const read = snapshots.filter(({ readers, usedBy }) => readers > 0 || usedBy).map((snapshot) => snapshot.name);
  const attached = view.attached && (await slot.host.call('liveConnections')) > lastingDevices;
  if (!attached && read.length === 0) return;
  const who = attached ? 'clients of its live export' : `readers of its snapshots ${read.join(', ')}`;
  const advice = attached && disregarded.advice !== undefined ? disregarded.advice : 'unmount or disconnect them first';
  throw new UnderstudyError('InUse', `volume ${slot.volume} cannot be ${what} while it has ${who}; ${advice}`);
}
