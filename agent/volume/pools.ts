import fs from 'node:fs/promises';
import path from 'node:path';
import { UnderstudyError } from '../../common/errors.ts';
import { formatBytes } from '../../common/quantity.ts';
import { DiskDirectory } from '../store/disk-directory.ts';
import { claimDevice, type DevicePool, wipeDevice } from './device-pool.ts';

/** A directory, on a disk of its own or not, in which volumes and buffers are files. */
export interface DirectoryPool {
  readonly name: string;
  readonly directory: string;
}

/** Where volumes or buffers live on this node. */
export type Pool = DirectoryPool | DevicePool;

/** The pools of a node, and the folders of volumes in them: each volume has one folder per pool that it uses. */
export class Pools {
  readonly #pools: ReadonlyMap<string, Pool>;

  constructor(pools: readonly Pool[]) {
    this.#pools = new Map(pools.map((pool) => [pool.name, pool]));
  }

  get all(): Pool[] {
    return [...this.#pools.values()];
  }

  /** @throws UnderstudyError NotFound, naming the pools that there are */
  get(name: string): Pool {
    const pool = this.#pools.get(name);
    if (pool) return pool;
    const names = [...this.#pools.keys()].join(', ');
    throw new UnderstudyError('NotFound', `no pool ${name} on this node; there are ${names}`);
  }

  /** @throws UnderstudyError NotFound, Invalid when a buffer cannot be in it */
  checkBufferPool(name: string): void {
    if (!('devices' in this.get(name))) return;
    throw new UnderstudyError(
      'Invalid',
      `pool ${name} consists of raw devices, and a snapshot buffer needs a directory: make a filesystem on a device and give the pool its mount point`,
    );
  }

  folderOf(pool: string, volume: string): string {
    return path.join(this.get(pool).directory, volume);
  }

  /** Whether what is in a new volume's place reads as zeroes. */
  startsBlank(pool: string): boolean {
    return !('devices' in this.get(pool));
  }

  /** Makes the place for a volume's data; the data file itself is made with the stack. @throws UnderstudyError NoSpace */
  async reserve(
    pool: string,
    volume: string,
    sizeBytes: number,
    provisioning: 'thick' | 'sparse',
  ): Promise<DiskDirectory> {
    const found = this.get(pool);
    if (!('devices' in found) && provisioning === 'thick') await checkSpace(found, sizeBytes);
    const folder = await DiskDirectory.open(this.folderOf(pool, volume));
    if (!('devices' in found)) return folder;
    try {
      await claimDevice(found, volume, sizeBytes);
      return folder;
    } catch (error) {
      await this.#removeFolder(pool, volume);
      throw error;
    }
  }

  /** The pools' directories exist, and are this process's to use. */
  async open(): Promise<void> {
    for (const { directory } of this.all) await DiskDirectory.open(directory);
  }

  /** Names of the folders in a pool, each of one volume. */
  async volumesIn(pool: Pool): Promise<string[]> {
    const entries = await fs.readdir(pool.directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && entry.name !== 'lost+found').map((entry) => entry.name);
  }

  /** Removes what a volume has in a pool, its data included. */
  async remove(pool: string, volume: string): Promise<void> {
    const found = this.get(pool);
    if ('devices' in found) await wipeDevice(found, volume);
    await this.#removeFolder(pool, volume);
  }

  /** Removes what else a volume has on this node: its buffer, its mirrors' journals. Data in raw devices stays. */
  async removeBeside(pool: string, volume: string): Promise<void> {
    for (const { name } of this.all) if (name !== pool) await this.#removeFolder(name, volume);
  }

  async #removeFolder(pool: string, volume: string): Promise<void> {
    await fs.rm(this.folderOf(pool, volume), { recursive: true, force: true });
  }
}

/** Makes sure that a thick file of that size can be had. @throws UnderstudyError NoSpace */
async function checkSpace(pool: DirectoryPool, bytes: number): Promise<void> {
  const { freeBytes } = await (await DiskDirectory.open(pool.directory)).space();
  if (bytes <= freeBytes) return;
  throw new UnderstudyError(
    'NoSpace',
    `pool ${pool.name} has ${formatBytes(freeBytes)} free, ${formatBytes(bytes)} are needed`,
  );
}
