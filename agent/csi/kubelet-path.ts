import { lstat, rm, rmdir } from 'node:fs/promises';
import { CsiError } from '../../common/csi/csi-error.ts';
import { systemErrorCode } from '../../common/errors.ts';

/**
 * A path that the kubelet names for a mount.
 * @throws CsiError INVALID_ARGUMENT unless it is absolute, plain, and within the kubelet's directory where that is known
 */
export function checkPath(what: string, path: string, kubeletDirectory: string | undefined): void {
  if (path === '') throw new CsiError('INVALID_ARGUMENT', `no ${what} was given`);
  const isPlain = path.startsWith('/') && !path.includes('\0') && !path.split('/').some((part) => part === '..');
  if (!isPlain) throw new CsiError('INVALID_ARGUMENT', `the ${what} must be an absolute path without "..": ${path}`);
  if (kubeletDirectory !== undefined && !path.startsWith(`${kubeletDirectory}/`)) {
    throw new CsiError('INVALID_ARGUMENT', `the ${what} must lie in ${kubeletDirectory}, got ${path}`);
  }
}

/** CSI asks that an unpublished target is gone. Only what is empty goes: never what somebody has left in it. */
export async function removeTarget(path: string): Promise<void> {
  try {
    const stats = await lstat(path);
    if (stats.isDirectory()) await rmdir(path);
    else if (stats.isFile() && stats.size === 0) await rm(path);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EBUSY') throw error;
  }
}
