import { join } from 'node:path';
import { UnderstudyError } from '../common/errors.ts';
import type { AgentContext } from './agent-context.ts';
import type { TlsMaterial } from './api/listener.ts';
import type { AgentConfig, PoolConfig } from './config.ts';
import type { Pool } from './volume/pools.ts';
import { VolumeManager } from './volume/volume-manager.ts';

/**
 * Starts the volumes that the pools hold.
 * @throws UnderstudyError Invalid for what the configuration asks for and this version cannot do
 */
export async function startVolumes(
  config: AgentConfig,
  tls: TlsMaterial | undefined,
  { clock, log }: AgentContext,
): Promise<VolumeManager> {
  if (config.arbiter === 'kubernetes') {
    throw new UnderstudyError('Invalid', 'arbiter: this version has no arbiter "kubernetes" yet; set it to none');
  }
  return VolumeManager.start({
    pools: config.pools.map((pool) => poolOf(pool, config.stateDirectory)),
    nbdDirectory: config.nbd.directory,
    mirrorListen: config.mirror.listen,
    tls,
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
