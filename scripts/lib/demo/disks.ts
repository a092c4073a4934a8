import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Cleanup } from './cleanup.ts';
import { run } from './command.ts';

export const isRoot = process.getuid?.() === 0;

const diskBytes = 4 * 1024 ** 3;

/** A folder that plays a disk. As root it is a filesystem of its own in a sparse file, else just a folder. */
export async function makeDisk(folder: string, name: string, cleanup: Cleanup): Promise<string> {
  const mountPoint = join(folder, name);
  mkdirSync(mountPoint);
  if (!isRoot) return mountPoint;
  const image = join(folder, `${name}.img`);
  writeFileSync(image, '');
  truncateSync(image, diskBytes);
  await run(['mkfs.ext4', '-q', '-E', 'nodiscard', image]);
  await run(['mount', '-o', 'loop', image, mountPoint]);
  cleanup.add(`unmount ${mountPoint}`, () => run(['umount', mountPoint]));
  return mountPoint;
}

/** Programs that the demo or its agents start, and that name a path of the demo when they run. */
const ourPrograms = ['node', 'nbdfuse', 'postgres', 'taskset'];

/**
 * Undoes what a killed agent leaves on its node: mounts, loop devices, and the programs that served them. Only what is
 * below the given folder is touched; the disks stay.
 */
export async function removeLeftovers(folder: string): Promise<void> {
  // Asked first: the path of a file whose mount is gone cannot be told any more.
  const devices = (await loopDevicesOf(folder)).filter(({ file }) => !file.endsWith('.img'));
  const disks = ['main', 'buffer'].map((name) => join(folder, name));
  const mounts = mountsBelow(folder).filter((mountPoint) => !disks.includes(mountPoint));
  for (const mountPoint of mounts.reverse()) await run(['umount', '--lazy', mountPoint]);
  for (const { device } of devices) await run(['losetup', '--detach', device]);
  for (const pid of processesNaming(folder)) process.kill(pid, 'SIGKILL');
}

/** Mount points below a folder, in the order in which they were mounted. */
export function mountsBelow(folder: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n');
  return lines.map((line) => line.split(' ')[4] ?? '').filter((mountPoint) => mountPoint.startsWith(`${folder}/`));
}

/** Loop devices on files below a folder. */
export async function loopDevicesOf(folder: string): Promise<{ device: string; file: string }[]> {
  const { output } = await run(['losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE']);
  return output
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .map(([device = '', file = '']) => ({ device, file }))
    .filter(({ file }) => file.startsWith(`${folder}/`));
}

/** Processes of ours that have a path below the folder in their command line. */
export function processesNaming(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      const [program = '', ...args] = commandLine(pid);
      return ourPrograms.includes(basename(program)) && args.some((arg) => arg.includes(`${folder}/`));
    });
}

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
