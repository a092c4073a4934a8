import { join } from 'node:path';
import type { AgentContext } from './agent-context.ts';
import { chooseDriver } from './attach/choose-driver.ts';
import { SystemCommands } from './attach/commands.ts';
import type { ExportSource } from './attach/export-source.ts';
import { FuseDriver } from './attach/fuse-driver.ts';
import { NbdDriver } from './attach/nbd-driver.ts';
import { NodeMounts } from './attach/node-mounts.ts';
import type { AgentConfig } from './config.ts';
import { DiskDirectory } from './store/disk-directory.ts';

/** The mounts of this node, with what an earlier agent left recovered. They need volumes that are loaded. */
export async function openMounts(
  config: AgentConfig,
  source: ExportSource,
  context: AgentContext,
): Promise<NodeMounts> {
  const { clock } = context;
  const log = context.log.child({ component: 'attach' });
  const directory = join(config.stateDirectory, 'attach');
  const commands = new SystemCommands({ clock });
  const fuse = await FuseDriver.open({ directory: join(directory, 'fuse'), node: config.node, commands, clock, log });
  const nbd = new NbdDriver({ directory: config.stateDirectory, node: config.node, commands, clock, log });
  const drivers = [nbd, fuse];
  const driver = await chooseDriver(config.attach, drivers);
  log.info({ driver: driver.kind }, 'attach driver chosen');
  const mounts = await NodeMounts.open({
    source,
    driver,
    otherDrivers: drivers,
    state: await DiskDirectory.open(join(directory, 'journal')),
    workDirectory: join(directory, 'mounts'),
    commands,
    clock,
    log,
  });
  await mounts.recover();
  return mounts;
}
