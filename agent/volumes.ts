import { join } from 'node:path';
import type { AgentContext } from './agent-context.ts';
import type { TlsMaterial } from './api/listener.ts';
import type { AgentConfig, PoolConfig } from './config.ts';
import type { Arbiter } from './mirror/arbiter.ts';
import type { Pool } from './volume/pools.ts';
import { VolumeManager } from './volume/volume-manager.ts';

/**
 * Starts the volumes that the pools hold.
 */
export async function startVolumes(
  config: AgentConfig,
  tls: TlsMaterial | undefined,
  arbiter: Arbiter | undefined,
  { clock, log }: AgentContext,
): Promise<VolumeManager> {
  return VolumeManager.start({
    pools: config.pools.map((pool) => poolOf(pool, config.stateDirectory)),
    nbdDirectory: config.nbd.directory,
    mirrorListen: config.mirror.listen,
    resyncBytesPerSecond: config.mirror.resyncBytesPerSecond,
    tls,
    arbiter,
    clock,
    log: log.child({ component: 'volumes' }),
  });
}

/** The folders of volumes on raw devices are in the agent's state directory. */
function poolOf(pool: PoolConfig, stateDirectory: string): Pool {
  if ('directory' in pool) return pool;
  const { name, devices } = pool;
  return { name, devices, directory: join(stateDirectory, 'device-pools', name) };
}
