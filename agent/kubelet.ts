import { join } from 'node:path';
import type { AgentContext } from './agent-context.ts';
import { SystemCommands } from './attach/commands.ts';
import { filesystemUsage } from './attach/filesystem-usage.ts';
import type { NodeMounts } from './attach/node-mounts.ts';
import type { AgentConfig } from './config.ts';
import { SnapshotPins } from './csi/snapshot-pins.ts';
import type { Csi } from './csi/start-csi.ts';
import { UseJournal } from './csi/use-journal.ts';
import { DiskDirectory } from './store/disk-directory.ts';
import type { VolumeManager } from './volume/volume-manager.ts';

/** What the kubelet has asked for before. From now on the snapshots that pods of this node use are not deleted. */
export async function recallKubeletUses(
  config: AgentConfig,
  volumes: VolumeManager,
  { log }: AgentContext,
): Promise<UseJournal> {
  const directory = await DiskDirectory.open(join(config.stateDirectory, 'csi'));
  const journal = await UseJournal.open(directory, log.child({ component: 'csi' }));
  volumes.useSnapshotUsers(new SnapshotPins(journal));
  return journal;
}

/** The CSI service of this node. gRPC is loaded only where there is one. */
export async function serveKubelet(
  csi: NonNullable<AgentConfig['csi']>,
  { node }: AgentConfig,
  parts: { volumes: VolumeManager; mounts: NodeMounts; journal: UseJournal },
  { version, clock, log }: AgentContext,
): Promise<Csi> {
  const { startCsi } = await import('./csi/start-csi.ts');
  const commands = new SystemCommands({ clock });
  const usage = (path: string) => filesystemUsage(commands, path);
  return startCsi({ ...csi, ...parts, node, version, usage, clock, log });
}
