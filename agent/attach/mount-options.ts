import { UnderstudyError } from '../../common/errors.ts';

/** Options that would make something else of a mount than the mount of one filesystem, on one device, at one place. */
const neverAllowed = new Set([
  ...['bind', 'rbind', 'move', 'remount', 'shared', 'rshared', 'slave', 'rslave', 'private', 'rprivate'],
  ...['unbindable', 'runbindable', 'loop', 'offset', 'sizelimit', 'user', 'users', 'owner', 'group', 'helper'],
  ...['uhelper', '_netdev', 'ro', 'rw', 'norecovery', 'noload', 'nologreplay'],
  ...['device', 'logdev', 'rtdev', 'journal_dev', 'journal_path'],
]);

/** What would give whoever left something in a snapshot power over the node. */
const neverForSnapshots = new Set(['suid', 'dev', 'defaults']);

/** At commas, except between quotes: an SELinux context may have some. */
function splitOptions(options: string): string[] {
  return options.match(/(?:"[^"]*"|[^",])+/g) ?? [];
}

/**
 * Single options from what a request lists, each of which may be several with commas between.
 * @throws UnderstudyError Invalid, naming the option that is not allowed and why.
 */
export function checkOptions(options: readonly string[], kind: 'volume' | 'snapshot'): string[] {
  const single = options.flatMap(splitOptions);
  for (const option of single) {
    const name = option.split('=')[0] ?? '';
    if (neverAllowed.has(name) || /^x-/i.test(name)) {
      const hint = name === 'ro' || name === 'rw' ? ': say readOnly instead' : '';
      throw new UnderstudyError('Invalid', `mount option "${option}" is not allowed${hint}`);
    }
    if (kind === 'snapshot' && neverForSnapshots.has(name)) {
      throw new UnderstudyError(
        'Invalid',
        `mount option "${option}" is not allowed: snapshots are mounted nosuid,nodev`,
      );
    }
  }
  return single;
}
