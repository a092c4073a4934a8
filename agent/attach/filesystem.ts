import { UnderstudyError } from '../../common/errors.ts';
import type { FsType } from '../api/contract/mounts.ts';
import type { Commands } from './commands.ts';

/** What the signatures on a device say that it holds. */
export interface Signature {
  /** The type of a filesystem, as mount(8) calls it; undefined if it is something else, or not certain. */
  readonly fsType: string | undefined;
  readonly uuid: string | undefined;
  /** For people: "an ext4 filesystem", "a gpt partition table". */
  readonly description: string;
}

const formatTimeoutMs = 10 * 60_000;
const growTimeoutMs = 10 * 60_000;
const blkidFoundNothing = 2;
const blkidAmbivalent = 8;

/** Looks for signatures on the device itself (never in a cache); undefined if there are none that are known. */
export async function probe(commands: Commands, device: string): Promise<Signature | undefined> {
  const acceptExitCodes = [0, blkidFoundNothing, blkidAmbivalent];
  const result = await commands.run('blkid', ['--probe', '--output', 'export', device], { acceptExitCodes });
  if (result.exitCode === blkidFoundNothing) return undefined;
  if (result.exitCode === blkidAmbivalent) {
    return { fsType: undefined, uuid: undefined, description: 'signatures of several kinds' };
  }
  return parseBlkid(result.stdout);
}

/** Reads the `--output export` format of blkid(8). */
export function parseBlkid(output: string): Signature {
  const tags = new Map(output.split('\n').map((line) => splitAt(line, '=')));
  const type = tags.get('TYPE');
  const uuid = tags.get('UUID');
  if (type !== undefined && tags.get('USAGE') === 'filesystem') {
    return { fsType: type, uuid, description: `a filesystem of type ${type}` };
  }
  const partitions = tags.get('PTTYPE');
  const description = type ?? (partitions === undefined ? 'an unknown signature' : `a ${partitions} partition table`);
  return { fsType: undefined, uuid, description };
}

function splitAt(line: string, separator: string): [string, string] {
  const index = line.indexOf(separator);
  return index < 0 ? [line, ''] : [line.slice(0, index), line.slice(index + 1)];
}

/** Makes a mounted filesystem as large as its device; one that is that large already stays as it is. */
export async function growFilesystem(
  commands: Commands,
  { device, fsType, mountPoint }: { device: string; fsType: FsType; mountPoint: string },
): Promise<void> {
  const [program, ...args] = {
    ext4: ['resize2fs', device] as const,
    xfs: ['xfs_growfs', '-d', mountPoint] as const,
    btrfs: ['btrfs', 'filesystem', 'resize', 'max', mountPoint] as const,
  }[fsType];
  await commands.run(program, args, { timeoutMs: growTimeoutMs });
}

/**
 * The volume reads as zeroes, so nothing need be discarded first (a thick volume would lose its reservation), and ext4
 * need not write zeroes over its journal, which would all travel to the standbys.
 */
const makers: Readonly<Record<FsType, { program: string; args: readonly string[] }>> = {
  ext4: { program: 'mkfs.ext4', args: ['-q', '-E', 'nodiscard,lazy_itable_init=1,lazy_journal_init=1'] },
  xfs: { program: 'mkfs.xfs', args: ['-q', '-K'] },
  btrfs: { program: 'mkfs.btrfs', args: ['-q', '-K'] },
};

/**
 * Makes a filesystem on a device that is known to be blank. None of these programs is told to overwrite: they refuse
 * where they find a filesystem.
 * @throws UnderstudyError with what the program said.
 */
export async function format(commands: Commands, device: string, fsType: FsType): Promise<void> {
  const { program, args } = makers[fsType];
  try {
    await commands.run(program, [...args, device], { timeoutMs: formatTimeoutMs });
  } catch (error) {
    throw new UnderstudyError('Io', `no ${fsType} filesystem could be made on ${device}`, { cause: error });
  }
}
