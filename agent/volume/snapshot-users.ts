import { UnderstudyError } from '../../common/errors.ts';
import type { SnapshotView, VolumeView } from '../api/contract/volumes.ts';

/** Who has asked for a snapshot, also while it is not open. */
export interface SnapshotUsers {
  /** For people: "backups/nightly-29301", the namespace and name of a pod. */
  usersOf(volume: string, snapshot: string): readonly string[];
}

export const noSnapshotUsers: SnapshotUsers = { usersOf: () => [] };

/** A snapshot's view with its users. */
export function withUsers(users: SnapshotUsers, volume: string, view: SnapshotView): SnapshotView {
  const usedBy = users.usersOf(volume, view.name);
  return usedBy.length === 0 ? view : { ...view, usedBy: [...usedBy] };
}

export function withSnapshotUsers(users: SnapshotUsers, view: VolumeView): VolumeView {
  return { ...view, snapshots: view.snapshots.map((snapshot) => withUsers(users, view.volume, snapshot)) };
}

/** @throws UnderstudyError InUse, naming them, while a snapshot has users. */
export function refuseWhileUsed(users: SnapshotUsers, volume: string, snapshot: string): void {
  const usedBy = users.usersOf(volume, snapshot);
  if (usedBy.length === 0) return;
  throw new UnderstudyError(
    'InUse',
    `snapshot "${snapshot}" of volume ${volume} is mounted for ${usedBy.join(', ')}: it can be deleted when they are gone`,
  );
}
