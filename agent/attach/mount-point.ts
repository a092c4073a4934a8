/**
 * The place where something is to be mounted. What is missing of its path is made, remembered, and removed again with
 * the mount; what was there before stays.
 */
import { lstat, mkdir, open, realpath, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemErrorCode, UnderstudyError } from '../../common/errors.ts';

export interface MountPoint {
  /** Without symbolic links, as the kernel will show it. */
  readonly path: string;
  /** What has to be made, outermost first; the last is the mount point itself. */
  readonly missing: readonly string[];
}

/** Looks only; makes nothing. @throws UnderstudyError Invalid when the target is there and of the wrong kind. */
export async function resolveMountPoint(target: string, kind: 'directory' | 'file'): Promise<MountPoint> {
  const missing: string[] = [];
  let existing = join(target, '.');
  if (existing.length > 1) existing = existing.replace(/\/$/, '');
  let path = await realPathIfThere(existing);
  while (path === undefined) {
    missing.unshift(basename(existing));
    existing = dirname(existing);
    path = await realPathIfThere(existing);
  }
  const paths = missing.map((_, index) => join(path, ...missing.slice(0, index + 1)));
  await checkKind(path, paths.length > 0 ? 'directory' : kind);
  return { path: join(path, ...missing), missing: paths };
}

async function checkKind(path: string, kind: 'directory' | 'file'): Promise<void> {
  const stats = await lstat(path);
  const fits = kind === 'directory' ? stats.isDirectory() : !stats.isDirectory();
  if (!fits) throw new UnderstudyError('Invalid', `${path} is not a ${kind}`);
}

export async function createMountPoint(point: MountPoint, kind: 'directory' | 'file'): Promise<void> {
  for (const path of point.missing) {
    if (kind === 'file' && path === point.path) await (await open(path, 'a', 0o600)).close();
    else await mkdir(path, { mode: 0o755, recursive: true });
  }
}

/** Removes what was made, as far as it is still empty. */
export async function removeMountPoint(created: readonly string[]): Promise<void> {
  for (const path of created.toReversed()) {
    try {
      const stats = await lstat(path);
      if (stats.isDirectory()) await rmdir(path);
      else if (stats.size === 0) await rm(path);
      else return;
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'ENOTEMPTY' || code === 'EBUSY') return;
      if (code !== 'ENOENT') throw error;
    }
  }
}

async function realPathIfThere(path: string): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw new UnderstudyError('Invalid', `${path} cannot be a mount point`, { cause: error });
  }
}
