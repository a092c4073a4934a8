import type { VolumeUsage } from '../../common/csi/messages.ts';
import type { MountView, SnapshotMount, VolumeMount } from '../api/contract/mounts.ts';

/**
 * What the CSI service needs of this node's mounts. Mounts have names, unique within a volume; making one that is there
 * already, and undoing one that is not there, is no error. Every failure is an UnderstudyError, and leaves nothing.
 */
export interface KubeletMounts {
  list(): Promise<MountView[]>;
  /** A further mount of a live filesystem shows the same filesystem at a second place. */
  mountVolume(volume: string, mount: string, request: VolumeMount): Promise<MountView>;
  /** `shared`: mounts of the same snapshot with the same options have one device and scratch view between them. */
  mountSnapshot(
    volume: string,
    snapshot: string,
    mount: string,
    request: SnapshotMount,
    options: { shared: boolean },
  ): Promise<MountView>;
  /** The live volume as a raw block device at the path of a file. */
  publishDevice(volume: string, mount: string, request: { target: string; readOnly: boolean }): Promise<MountView>;
  publishSnapshotDevice(volume: string, snapshot: string, mount: string, target: string): Promise<MountView>;
  /** @throws InUse, naming who holds it */
  unmount(volume: string, mount: string): Promise<void>;
  /** Makes the device of a live mount, and its filesystem, as large as the volume. @throws NotReady, ReadOnly */
  grow(volume: string, mount: string): Promise<{ sizeBytes: number }>;
}

/** How full a mounted filesystem is. @throws Timeout when it does not answer */
export type FilesystemUsage = (path: string) => Promise<VolumeUsage[]>;
