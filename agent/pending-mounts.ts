import { UnderstudyError } from '../common/errors.ts';
import type { MountView, SnapshotMount, VolumeMount } from './api/contract/mounts.ts';
import type { MountService } from './volume/mount-service.ts';

/**
 * The mounts of a node while its volumes are still being recovered: the API answers from the start, and what is mounted
 * can neither be told nor changed before what an earlier agent left has been put in order.
 */
export class PendingMounts implements MountService {
  #mounts: MountService | undefined;

  /** From now on requests go to these. */
  recovered(mounts: MountService): void {
    this.#mounts = mounts;
  }

  async list(): Promise<MountView[]> {
    return this.#service.list();
  }

  async mountVolume(volume: string, mount: string, request: VolumeMount): Promise<MountView> {
    return this.#service.mountVolume(volume, mount, request);
  }

  async mountSnapshot(volume: string, snapshot: string, mount: string, request: SnapshotMount): Promise<MountView> {
    return this.#service.mountSnapshot(volume, snapshot, mount, request);
  }

  async unmount(volume: string, mount: string): Promise<void> {
    return this.#service.unmount(volume, mount);
  }

  get #service(): MountService {
    if (this.#mounts) return this.#mounts;
    throw new UnderstudyError('NotReady', 'the mounts of this node are being recovered; try again in a moment');
  }
}
