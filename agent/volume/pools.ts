import fs from 'node:fs/promises';
import path from 'node:path';
import { systemErrorCode, UnderstudyError } from '../../common/errors.ts';
import { formatBytes } from '../../common/quantity.ts';
import { DiskDirectory } from '../store/disk-directory.ts';

/** Where volumes or buffers live on this node: a directory, on a disk of its own or not. */
export interface Pool {
  readonly name: string;
  readonly directory: string;
}

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
    throw new UnderstudyError(
      'NotFound',
      `no pool ${name} on this node; there are ${[...this.#pools.keys()].join(', ')}`,
    );
  }

  folderOf(pool: string, volume: string): string {
    return path.join(this.get(pool).directory, volume);
  }

  /** Makes sure that a thick file of that size can be had. @throws UnderstudyError NoSpace */
  async checkSpace(pool: string, bytes: number): Promise<void> {
    const { freeBytes } = await (await DiskDirectory.open(this.get(pool).directory)).space();
    if (bytes <= freeBytes) return;
    throw new UnderstudyError(
      'NoSpace',
      `pool ${pool} has ${formatBytes(freeBytes)} free, ${formatBytes(bytes)} are needed`,
    );
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

  /** Whether a folder has anything in it that a volume of that name would have left there. */
  async holdsFiles(pool: string, volume: string): Promise<boolean> {
    try {
      return (await fs.readdir(this.folderOf(pool, volume))).length > 0;
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return false;
      throw error;
    }
  }

  async remove(pool: string, volume: string): Promise<void> {
    await fs.rm(this.folderOf(pool, volume), { recursive: true, force: true });
  }
}
