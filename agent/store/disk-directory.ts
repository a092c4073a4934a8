import fs from 'node:fs/promises';
import path from 'node:path';
import { systemErrorCode, UnderstudyError } from '../../common/errors.ts';
import type { OpenOptions, StorageDirectory } from '../core/storage.ts';
import { diskError } from './disk-error.ts';
import { DiskFile } from './disk-file.ts';

/**
 * One folder of a real file system.
 *
 * A file appears under its name only when it is whole: it is made as `.<name>.tmp`, synced, renamed, and the folder
 * synced. What a crash leaves of a temporary file is not listed, and the next attempt overwrites it.
 */
export class DiskDirectory implements StorageDirectory {
  readonly path: string;

  private constructor(directory: string) {
    this.path = directory;
  }

  /**
   * Opens a folder, making it if it is missing.
   * @throws UnderstudyError Io, NoSpace
   */
  static async open(directory: string): Promise<DiskDirectory> {
    try {
      const created = await fs.mkdir(directory, { recursive: true });
      if (created !== undefined) await syncFolder(path.dirname(created));
      return new DiskDirectory(directory);
    } catch (error) {
      throw diskError('open the folder', directory, error);
    }
  }

  async open(name: string, options: OpenOptions = {}): Promise<DiskFile> {
    const file = this.#pathOf(name);
    if (options.create && !(await exists(file))) await this.#create(name, options.create);
    return DiskFile.open(file, options.background);
  }

  async readFile(name: string): Promise<Uint8Array | undefined> {
    const file = this.#pathOf(name);
    try {
      return await fs.readFile(file);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return undefined;
      throw diskError('read', file, error);
    }
  }

  async writeFile(name: string, content: Uint8Array): Promise<void> {
    const file = this.#pathOf(name);
    try {
      const handle = await fs.open(this.#temporaryPathOf(name), 'w');
      try {
        await handle.writeFile(content);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.#publish(name);
    } catch (error) {
      throw diskError('write', file, error);
    }
  }

  async remove(name: string): Promise<void> {
    const file = this.#pathOf(name);
    try {
      await fs.rm(this.#temporaryPathOf(name), { force: true });
      await fs.rm(file, { force: true });
      await syncFolder(this.path);
    } catch (error) {
      throw diskError('remove', file, error);
    }
  }

  async list(): Promise<string[]> {
    try {
      const names = await fs.readdir(this.path);
      return names.filter((name) => !name.startsWith('.')).sort();
    } catch (error) {
      throw diskError('list', this.path, error);
    }
  }

  async space(): Promise<{ totalBytes: number; freeBytes: number }> {
    try {
      const status = await fs.statfs(this.path);
      return { totalBytes: status.blocks * status.bsize, freeBytes: status.bavail * status.bsize };
    } catch (error) {
      throw diskError('find the free space of', this.path, error);
    }
  }

  async #create(name: string, { size, space }: NonNullable<OpenOptions['create']>): Promise<void> {
    const temporary = this.#temporaryPathOf(name);
    try {
      await (await fs.open(temporary, 'w')).close();
    } catch (error) {
      throw diskError('create', temporary, error);
    }
    const file = DiskFile.open(temporary);
    try {
      await file.resize(size, space);
      await file.sync();
      await file.close();
      await this.#publish(name);
    } catch (error) {
      await file.close().catch(() => {});
      await fs.rm(temporary, { force: true }).catch(() => {});
      throw diskError('create', this.#pathOf(name), error);
    }
  }

  async #publish(name: string): Promise<void> {
    await fs.rename(this.#temporaryPathOf(name), this.#pathOf(name));
    await syncFolder(this.path);
  }

  #pathOf(name: string): string {
    if (!/^[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]{0,249}$/.test(name)) {
      throw new UnderstudyError(
        'Invalid',
        `"${name}" is not a file name: expected letters, digits, "-", "_", "@", "+", "."`,
      );
    }
    return path.join(this.path, name);
  }

  #temporaryPathOf(name: string): string {
    return path.join(this.path, `.${name}.tmp`);
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await fs.access(file);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw diskError('look for', file, error);
  }
}

/** Makes creations, renames and removals in a folder durable. */
async function syncFolder(directory: string): Promise<void> {
  const handle = await fs.open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
