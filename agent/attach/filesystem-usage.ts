import type { VolumeUsage } from '../../common/csi/messages.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Commands } from './commands.ts';

/** A filesystem answers from memory; one whose device hangs may not answer at all. */
const statTimeoutMs = 10_000;
/** Block size, blocks, free for users, free in all, inodes, free inodes. */
const statFormat = '%S %b %a %f %c %d';

/** How full a mounted filesystem is. It is asked in a process of its own, for the answer may hang. @throws Timeout, Io */
export async function filesystemUsage(commands: Commands, path: string): Promise<VolumeUsage[]> {
  const args = ['--file-system', `--format=${statFormat}`, path];
  const { stdout } = await commands.run('stat', args, { timeoutMs: statTimeoutMs });
  return parseUsage(stdout);
}

export function parseUsage(output: string): VolumeUsage[] {
  const numbers = output.trim().split(' ').map(Number);
  const [blockSize = 0, blocks = 0, available = 0, free = 0, inodes = 0, freeInodes = 0] = numbers;
  if (numbers.length !== 6 || numbers.some(Number.isNaN)) {
    throw new UnderstudyError('Protocol', `stat(1) answered ${JSON.stringify(output)}`);
  }
  const bytes: VolumeUsage = {
    unit: 'BYTES',
    total: blocks * blockSize,
    available: available * blockSize,
    used: (blocks - free) * blockSize,
  };
  // btrfs makes inodes as it needs them, and counts none.
  if (inodes === 0) return [bytes];
  return [bytes, { unit: 'INODES', total: inodes, available: freeInodes, used: inodes - freeInodes }];
}
