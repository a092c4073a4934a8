import { readdir, readFile } from 'node:fs/promises';
import { systemErrorCode } from '../../common/errors.ts';
import { type MountEntry, parseMountTable } from './mount-table.ts';

/** A loop device that is bound to a file. */
export interface LoopDevice {
  /** "/dev/loop3" */
  readonly device: string;
  /** As the kernel shows it: relative to its filesystem if that is no longer mounted anywhere we can see. */
  readonly backingFile: string;
  readonly sizeBytes: number;
  /** It will be released when its last user closes it. */
  readonly autoclear: boolean;
}

export interface ProcessInfo {
  readonly pid: number;
  readonly command: readonly string[];
}

/** What the kernel shows of this machine. Nothing here opens a device or a mounted file, so that nothing can hang. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'utf8'));
}

export async function readLoopDevices(): Promise<LoopDevice[]> {
  const names = (await readdir('/sys/block')).filter((name) => /^loop[0-9]+$/.test(name));
  const devices = await Promise.all(names.map(readLoopDevice));
  return devices.filter((device) => device !== undefined);
}

async function readLoopDevice(name: string): Promise<LoopDevice | undefined> {
  const directory = `/sys/block/${name}`;
  const backingFile = await readIfThere(`${directory}/loop/backing_file`);
  if (backingFile === undefined) return undefined;
  const sectors = Number((await readIfThere(`${directory}/size`)) ?? 0);
  const autoclear = (await readIfThere(`${directory}/loop/autoclear`))?.trim() === '1';
  return {
    device: `/dev/${name}`,
    backingFile: backingFile.replace(/\n$/, '').replace(/ \(deleted\)$/, ''),
    sizeBytes: sectors * 512,
    autoclear,
  };
}

/** Processes that run; one that has ended and waits to be reaped has no command line any more and is left out. */
export async function readProcesses(): Promise<ProcessInfo[]> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name));
  const processes = await Promise.all(
    pids.map(async (pid) => {
      const text = await readIfThere(`/proc/${pid}/cmdline`);
      return text ? { pid: Number(pid), command: text.replace(/\0$/, '').split('\0') } : undefined;
    }),
  );
  return processes.filter((process) => process !== undefined);
}

/** The content of a file of /proc or /sys, or undefined if what it describes is gone. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENXIO' || code === 'EINVAL') return undefined;
    throw error;
  }
}
