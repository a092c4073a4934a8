import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { CowDevice, type CowDeviceOptions } from '../cow/cow-device.ts';
import type { SnapshotInfo } from '../cow/snapshot-info.ts';
import { FileDevice } from '../store/file-device.ts';
import type { VolumeFill } from './volume-fill.ts';
import type { VolumeRecord } from './volume-record.ts';

export const dataFile = 'data';
export const intentFile = 'intent';

/** The folders of one volume: with its data, and with its snapshot buffer in another pool. */
export interface VolumeFolders {
  readonly data: StorageDirectory;
  readonly buffer: StorageDirectory | undefined;
  /** The volume's folder in another pool of the node. */
  readonly inPool: (pool: string) => Promise<StorageDirectory>;
  /** Why there is no folder for the buffer, though the volume has one. */
  readonly bufferFailure?: string;
}

/** The layers that every copy has, whatever its role. */
export interface VolumeStack {
  /** While it is being filled from a snapshot, and until the next start. */
  readonly fill?: VolumeFill | undefined;
  readonly cow: CowDevice | undefined;
  /** The uppermost of them. */
  readonly top: BlockDevice;
  /** Snapshots that lost their content since the stack was opened. */
  readonly invalidated: InvalidatedSnapshots;
  /** Why the volume is used without the buffer that it has. */
  readonly bufferFailure?: string;
}

export interface InvalidatedSnapshots {
  count: number;
}

/** Opens the layers of a copy from the bottom up. A new volume's files are made, and a data file that is to grow grows. */
export async function openStack(
  record: VolumeRecord,
  folders: VolumeFolders,
  clock: Clock,
  log: Log,
  fill?: VolumeFill,
): Promise<VolumeStack> {
  const { size, blockSize, provisioning, buffer, volume } = record;
  const space = provisioning === 'thick' ? 'allocate' : 'sparse';
  const data = await folders.data.open(dataFile, record.created ? {} : { create: { size, space } });
  if (data.size < size) {
    await data.resize(size, space);
    await data.sync();
  }
  const file = new FileDevice({ file: data, blockSize, provisioning, sizeBytes: size });
  const base = fill?.over(file) ?? file;
  const invalidated: InvalidatedSnapshots = { count: 0 };
  if (!buffer) return { fill, cow: undefined, top: base, invalidated };
  const onInvalidated = ({ name, reason }: SnapshotInfo) => {
    invalidated.count += 1;
    log.warn({ snapshot: name, reason }, 'a snapshot has been lost');
  };
  try {
    const cow = await openCow(record, buffer, base, folders, { clock, log, onInvalidated });
    return { fill, cow, top: cow, invalidated };
  } catch (error) {
    if (!record.created) throw error;
    return { fill, ...(await withoutBuffer(volume, base, folders, errorMessage(error), log)) };
  }
}

function openCow(
  { volume }: VolumeRecord,
  { capacity, maxSnapshots }: NonNullable<VolumeRecord['buffer']>,
  base: BlockDevice,
  folders: VolumeFolders,
  context: Pick<CowDeviceOptions, 'clock' | 'log' | 'onInvalidated'>,
): Promise<CowDevice> {
  if (!folders.buffer)
    throw new UnderstudyError('Io', folders.bufferFailure ?? 'the folder of the buffer cannot be opened');
  return CowDevice.open({
    base,
    directory: folders.buffer,
    volumeDirectory: folders.data,
    name: volume,
    capacityBytes: capacity,
    maxSnapshots,
    ...context,
  });
}

/** A buffer that cannot be used costs the snapshots, never the volume (invariant 7). */
async function withoutBuffer(
  volume: string,
  base: BlockDevice,
  folders: VolumeFolders,
  bufferFailure: string,
  log: Log,
): Promise<VolumeStack> {
  log.error(
    { error: bufferFailure },
    'the snapshot buffer cannot be used: its snapshots are lost, the volume goes on without',
  );
  await CowDevice.abandonBuffer(folders.data, volume);
  return { cow: undefined, top: base, invalidated: { count: 0 }, bufferFailure };
}
