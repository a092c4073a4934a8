import { cpus, loadavg, release, totalmem } from 'node:os';
import { run } from './command.ts';

/** Where figures were taken: they mean nothing without it. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly fileSystem: string;
  readonly loadAverage: readonly number[];
  readonly startedAt: string;
  readonly versions: Readonly<Record<string, string>>;
}

export async function describeMachine(directory: string): Promise<Machine> {
  const fileSystem = await run(['findmnt', '--noheadings', '--output', 'FSTYPE,SOURCE,OPTIONS', '--target', directory]);
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    fileSystem: fileSystem.stdout.trim().replaceAll(/\s+/g, ' '),
    loadAverage: loadavg(),
    startedAt: new Date().toISOString(),
    versions: {
      node: process.version,
      fio: await versionOf(['fio', '--version']),
      qemu: await versionOf(['qemu-nbd', '--version']),
      libnbd: await versionOf(['nbdcopy', '--version']),
    },
  };
}

async function versionOf(command: readonly string[]): Promise<string> {
  try {
    return (await run(command)).stdout.split('\n')[0]?.trim() ?? '';
  } catch {
    return 'not installed';
  }
}

/** Processes that want a core, averaged over the last minute, including those of others. */
export function loadNow(): number {
  return loadavg()[0] ?? 0;
}
