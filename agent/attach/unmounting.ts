import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Commands } from './commands.ts';
import { describeHolders, findHolders } from './holders.ts';
import { readMounts } from './host-state.ts';
import { mountedAt, showsDevice } from './mount-table.ts';

/** Writing back what a large page cache holds takes its time. */
const unmountTimeoutMs = 10 * 60_000;
const forcedTimeoutMs = 5_000;
/** Nothing is mounted more often than this on one place. */
const maxLayers = 16;

/** Whether one of these devices, or the filesystem on it, is what a mount point shows. */
export async function isMounted(mountPoint: string, devices: readonly string[]): Promise<boolean> {
  const entry = mountedAt(await readMounts(), mountPoint);
  return entry !== undefined && devices.some((device) => showsDevice(entry, device));
}

/**
 * Unmounts a device of ours from a mount point if it is mounted there.
 * @throws UnderstudyError InUse, naming the processes that hold it.
 */
export async function unmount(commands: Commands, mountPoint: string, device: string): Promise<void> {
  if (!(await isMounted(mountPoint, [device]))) return;
  try {
    await commands.run('umount', [mountPoint], { timeoutMs: unmountTimeoutMs });
  } catch (error) {
    throw await busyError(`${mountPoint} cannot be unmounted`, device, error);
  }
}

/** Says who keeps a device from being undone. */
export async function busyError(what: string, device: string, cause: unknown): Promise<UnderstudyError> {
  const holders = await findHolders(device);
  if (holders.length === 0) return new UnderstudyError('InUse', what, { labels: { device }, cause });
  const labels = { device, holders: holders.map(({ pid }) => pid).join(',') };
  return new UnderstudyError('InUse', `${what}: ${device} is in use by ${describeHolders(holders)}`, { labels, cause });
}

/**
 * Takes dead devices of ours off a mount point: regularly if that works, else out of the tree only ("lazy"), where
 * processes keep what they have open and get errors from it.
 */
export async function forceUnmount(
  commands: Commands,
  log: Log,
  mountPoint: string,
  devices: readonly string[],
): Promise<void> {
  for (let layer = 0; layer < maxLayers && (await isMounted(mountPoint, devices)); layer += 1) {
    await thaw(commands, mountPoint);
    try {
      await commands.run('umount', [mountPoint], { timeoutMs: forcedTimeoutMs });
    } catch (error) {
      log.warn({ mountPoint }, `unmounting lazily: ${errorMessage(error)}`);
      await commands.run('umount', ['--lazy', mountPoint], { timeoutMs: forcedTimeoutMs });
    }
  }
}

/** Undoes a freeze of which the watchdog was killed together with the agent. One that is not frozen stays as it is. */
export async function thaw(commands: Commands, mountPoint: string): Promise<void> {
  await commands.run('fsfreeze', ['--unfreeze', mountPoint], { timeoutMs: forcedTimeoutMs }).catch(() => {});
}
