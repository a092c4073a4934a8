import type { Clock } from '../../common/clock.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { CowDevice } from '../cow/cow-device.ts';
import { FileDevice } from '../store/file-device.ts';
import type { VolumeRecord } from './volume-record.ts';

export const dataFile = 'data';
export const intentFile = 'intent';

/** The folders of one volume: with its data, and with its snapshot buffer in another pool. */
export interface VolumeFolders {
  readonly data: StorageDirectory;
  readonly buffer: StorageDirectory | undefined;
}

/** The layers that every copy has, whatever its role. */
export interface VolumeStack {
  readonly file: FileDevice;
  readonly cow: CowDevice | undefined;
  /** The uppermost of them. */
  readonly top: BlockDevice;
}

/** Opens the layers of a copy from the bottom up. A new volume's files are made, and a data file that is to grow grows. */
export async function openStack(
  record: VolumeRecord,
  folders: VolumeFolders,
  clock: Clock,
  log: Log,
): Promise<VolumeStack> {
  const { size, blockSize, provisioning, buffer, volume } = record;
  const space = provisioning === 'thick' ? 'allocate' : 'sparse';
  const data = await folders.data.open(dataFile, record.created ? {} : { create: { size, space } });
  if (data.size < size) {
    await data.resize(size, space);
    await data.sync();
  }
  const file = new FileDevice({ file: data, blockSize, provisioning, sizeBytes: size });
  if (!buffer || !folders.buffer) return { file, cow: undefined, top: file };
  const cow = await CowDevice.open({
    base: file,
    directory: folders.buffer,
    volumeDirectory: folders.data,
    name: volume,
    capacityBytes: buffer.capacity,
    maxSnapshots: buffer.maxSnapshots,
    clock,
    log,
    onInvalidated: ({ name, reason }) => log.warn({ snapshot: name, reason }, 'a snapshot has been lost'),
  });
  return { file, cow, top: cow };
}
