/**
 * A pool of raw block devices, each of which holds the data of one volume.
 *
 * What is kept on disk: for each volume a folder in the agent's state directory, with the volume's record and bitmap,
 * and `data`, a symbolic link to the device: that link is the claim on it.
 *
 * Invariants
 * - A device is claimed by one volume at most.
 * - A device that holds anything (its first or last MiB is not zero) or is in use is never claimed.
 * - A claim is given up only after the device has been zeroed.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import { errorMessage, systemErrorCode, UnderstudyError } from '../../common/errors.ts';
import { formatBytes } from '../../common/quantity.ts';
import { DiskFile } from '../store/disk-file.ts';
import { dataFile } from './volume-stack.ts';

const edgeBytes = 1024 * 1024;

export interface DevicePool {
  readonly name: string;
  readonly devices: readonly string[];
  /** Where the folders of its volumes are. */
  readonly directory: string;
}

/**
 * Claims the smallest free device that is large enough, and links it into the volume's folder, which must exist.
 * @throws UnderstudyError NoSpace, saying of each device why not
 */
export async function claimDevice(pool: DevicePool, volume: string, sizeBytes: number): Promise<string> {
  const claims = await claimedDevices(pool);
  const fitting: { device: string; size: number }[] = [];
  const reasons: string[] = [];
  for (const device of pool.devices) {
    const owner = claims.get(device);
    const found = owner === undefined ? await examine(device, sizeBytes) : `belongs to volume ${owner}`;
    if (typeof found === 'number') fitting.push({ device, size: found });
    else reasons.push(`${device} ${found}`);
  }
  const [smallest] = fitting.sort((a, b) => a.size - b.size);
  if (!smallest) {
    throw new UnderstudyError(
      'NoSpace',
      `pool ${pool.name} has no device for ${formatBytes(sizeBytes)}: ${reasons.join('; ')}`,
    );
  }
  await fs.symlink(smallest.device, path.join(pool.directory, volume, dataFile));
  await syncFolder(path.join(pool.directory, volume));
  return smallest.device;
}

/** Zeroes the device of a volume; its folder may be removed after that. Takes as long as the device needs for it. */
export async function wipeDevice(pool: DevicePool, volume: string): Promise<void> {
  const link = path.join(pool.directory, volume, dataFile);
  try {
    await fs.readlink(link);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return;
    throw error;
  }
  const file = DiskFile.open(link);
  try {
    await file.zero(0, file.size, 'release');
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Which volume has which device. */
async function claimedDevices(pool: DevicePool): Promise<Map<string, string>> {
  const claims = new Map<string, string>();
  for (const volume of await fs.readdir(pool.directory)) {
    const device = await fs.readlink(path.join(pool.directory, volume, dataFile)).catch(() => undefined);
    if (device !== undefined) claims.set(device, volume);
  }
  return claims;
}

/** The device's size, or why it cannot be claimed. */
async function examine(device: string, sizeBytes: number): Promise<number | string> {
  try {
    if (!(await fs.stat(device)).isBlockDevice()) return 'is no block device';
    // With O_EXCL the kernel refuses a device that is mounted, or part of a RAID, an LVM or another claim.
    await (await fs.open(device, fs.constants.O_RDONLY | fs.constants.O_EXCL)).close();
    const file = DiskFile.open(device);
    try {
      if (file.size < sizeBytes) return `has only ${formatBytes(file.size)}`;
      const edges = [0, Math.max(0, file.size - edgeBytes)];
      for (const offset of edges) {
        const content = Buffer.alloc(Math.min(edgeBytes, file.size), 0xff);
        await file.read(offset, content);
        if (content.some((byte) => byte !== 0))
          return 'is not empty; wipe it (blkdiscard --zeroout) to give it to the pool';
      }
      return file.size;
    } finally {
      await file.close();
    }
  } catch (error) {
    return systemErrorCode(error) === 'EBUSY' ? 'is in use' : `cannot be examined: ${errorMessage(error)}`;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
