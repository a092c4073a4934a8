import type { MountView, SnapshotMount, VolumeMount } from '../api/contract/mounts.ts';

/** What the agent's API does with mounts. Every failure is an UnderstudyError whose message can be shown to people. */
export interface MountService {
  list(): Promise<MountView[]>;
  /** @throws NotFound, Conflict (same name, other target), InUse (target is a mount point already), NotReady, Invalid */
  mountVolume(volume: string, mount: string, request: VolumeMount): Promise<MountView>;
  mountSnapshot(volume: string, snapshot: string, mount: string, request: SnapshotMount): Promise<MountView>;
  /** Undoes everything the mount needed; a mount that is not there is no error. @throws InUse, naming who holds it. */
  unmount(volume: string, mount: string): Promise<void>;
}
