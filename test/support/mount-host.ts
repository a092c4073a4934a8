import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Commands, SystemCommands } from '../../agent/attach/commands.ts';
import type { ExportSource } from '../../agent/attach/export-source.ts';
import { FuseDriver } from '../../agent/attach/fuse-driver.ts';
import { readMounts } from '../../agent/attach/host-state.ts';
import { NodeMounts } from '../../agent/attach/node-mounts.ts';
import type { StorageDirectory } from '../../agent/core/storage.ts';
import { DiskDirectory } from '../../agent/store/disk-directory.ts';
import { systemClock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';

/** Why mounting cannot be tested on this machine, or undefined if it can. */
export async function mountingImpossible(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root';
  const commands = new SystemCommands({ clock: systemClock });
  const tools = [
    'nbdfuse',
    'nbdkit',
    'qemu-nbd',
    'qemu-img',
    'mkfs.ext4',
    'mkfs.xfs',
    'mkfs.btrfs',
    'fsfreeze',
    'blkid',
  ];
  for (const tool of tools) {
    if ((await commands.find(tool)) === undefined) return `needs ${tool}`;
  }
  const directory = await mkdtemp(join(tmpdir(), 'understudy-probe-'));
  try {
    return await (await openFuseDriver(directory, commands)).unusable();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

export function openFuseDriver(directory: string, commands: Commands): Promise<FuseDriver> {
  const options = {
    directory: join(directory, 'attach'),
    node: 'node-a',
    commands,
    clock: systemClock,
    log: silentLog,
  };
  return FuseDriver.open({ ...options, releaseTimeoutMs: 3_000 });
}

/** What a test puts between the mounts and the machine. */
export interface MountInterceptors {
  readonly commands?: (commands: Commands) => Commands;
  readonly state?: (state: StorageDirectory) => StorageDirectory;
}

/** The mounts of a node of which everything lies in one directory. */
export async function openMounts(
  directory: string,
  source: ExportSource,
  intercept: MountInterceptors = {},
): Promise<NodeMounts> {
  const systemCommands = new SystemCommands({ clock: systemClock });
  const commands = intercept.commands?.(systemCommands) ?? systemCommands;
  const state = await DiskDirectory.open(join(directory, 'state'));
  return NodeMounts.open({
    source,
    driver: await openFuseDriver(directory, commands),
    state: intercept.state?.(state) ?? state,
    workDirectory: join(directory, 'work'),
    commands,
    clock: systemClock,
    log: silentLog,
  });
}

/** Everything that attaching and mounting below a directory has left on this machine. */
export async function leftovers(directory: string): Promise<string[]> {
  const mounts = (await readMounts()).filter((entry) => entry.mountPoint.startsWith(directory));
  const driver = await openFuseDriver(directory, new SystemCommands({ clock: systemClock }));
  const attachments = await driver.list();
  const files = await Promise.all(['attach', 'work'].map((name) => readdir(join(directory, name)).catch(() => [])));
  return [
    ...mounts.map((entry) => `mount ${entry.mountPoint} of ${entry.source}`),
    ...attachments.map(({ name, devices }) => `attachment ${name} with ${devices.join(' ') || 'no device'}`),
    ...files.flat().map((file) => `file ${file}`),
  ];
}
