/**
 * Mounting a filesystem that is on a block device.
 *
 * A snapshot is what a power cut would have left: its filesystem's journal holds what is not in place yet. Mounted
 * read-only as it is, it would either be refused (XFS, btrfs on a read-only device) or show an inconsistent state (ext4
 * with noload). So it is first mounted read-write on a scratch view, where the kernel replays the journal, and unmounted;
 * what is then mounted read-only is a clean filesystem. Its UUID stays what it is: an application, or a restore, may
 * depend on it.
 */
import { access, mkdir, rmdir } from 'node:fs/promises';
import { UnderstudyError } from '../../common/errors.ts';
import type { Commands } from './commands.ts';

export interface FilesystemMount {
  readonly device: string;
  readonly fsType: string;
  readonly mountPoint: string;
  readonly readOnly: boolean;
  readonly options: readonly string[];
}

/** Replaying a journal reads and writes at most its size, but perhaps over a slow disk. */
const mountTimeoutMs = 10 * 60_000;

/** @throws UnderstudyError Io with what mount(8) said. */
export async function mountFilesystem(commands: Commands, mount: FilesystemMount): Promise<void> {
  const options = [...mount.options, mount.readOnly ? 'ro' : 'rw'].join(',');
  const args = ['-t', mount.fsType, '-o', options, mount.device, mount.mountPoint];
  await commands.run('mount', args, { timeoutMs: mountTimeoutMs });
}

/**
 * Shows a filesystem that is mounted already at a second place. Only for the second place does `readOnly` count.
 * @throws UnderstudyError Io
 */
export async function bindMount(
  commands: Commands,
  mount: { from: string; mountPoint: string; readOnly: boolean },
): Promise<void> {
  await commands.run('mount', ['--bind', mount.from, mount.mountPoint]);
  if (mount.readOnly) await commands.run('mount', ['-o', 'remount,bind,ro', mount.mountPoint]);
}

/** Two filesystems with one UUID are an everyday case here: XFS refuses the second unless told that it is meant. */
function cloneOptions(fsType: string): string[] {
  return fsType === 'xfs' ? ['nouuid'] : [];
}

/**
 * Mounts the filesystem of a snapshot read-only, as a clean one. Programs on it cannot gain rights, and device nodes on
 * it mean nothing. `workDirectory` is a private mount point for the time of the replay.
 * @throws UnderstudyError Io when the filesystem is damaged beyond what its journal repairs.
 */
export async function mountSnapshotFilesystem(
  commands: Commands,
  mount: Omit<FilesystemMount, 'readOnly'> & { workDirectory: string },
): Promise<void> {
  const { device, fsType, workDirectory } = mount;
  const safe = ['nosuid', 'nodev', ...cloneOptions(fsType)];
  await mkdir(workDirectory, { recursive: true, mode: 0o700 });
  try {
    const options = ['noexec', 'noatime', ...safe, ...(fsType === 'btrfs' ? ['skip_balance'] : [])];
    await mountFilesystem(commands, { device, fsType, mountPoint: workDirectory, readOnly: false, options });
    await commands.run('umount', [workDirectory], { timeoutMs: mountTimeoutMs });
  } catch (error) {
    await rmdir(workDirectory).catch(() => {});
    throw new UnderstudyError('Io', `the journal of the ${fsType} filesystem could not be replayed`, { cause: error });
  }
  await rmdir(workDirectory);
  await mountFilesystem(commands, { ...mount, readOnly: true, options: [...mount.options, ...safe] });
}

/**
 * Since Linux 6.7 btrfs can mount several filesystems of one UUID at a time; before, a second device of the same UUID is
 * taken for another path to the first, and what is written may end up on either.
 * @throws UnderstudyError Conflict when a filesystem of that UUID is mounted on this machine and the kernel is too old.
 */
export async function refuseBtrfsTwin(signature: {
  fsType: string | undefined;
  uuid: string | undefined;
}): Promise<void> {
  if (signature.fsType !== 'btrfs' || signature.uuid === undefined) return;
  if (await exists('/sys/fs/btrfs/features/temp_fsid')) return;
  if (!(await exists(`/sys/fs/btrfs/${signature.uuid}`))) return;
  throw new UnderstudyError(
    'Conflict',
    `a btrfs filesystem with UUID ${signature.uuid} is mounted on this node already, and this kernel cannot mount its ` +
      'clone beside it (Linux 6.7 and later can): mount the snapshot on another node, or unmount the other one first',
  );
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
