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
    pools: config.pools.map(directoryPool),
    nbdDirectory: config.nbd.directory,
    mirrorListen: config.mirror.listen,
    tls,
    clock,
    log: log.child({ component: 'volumes' }),
  });
}

function directoryPool(pool: PoolConfig): Pool {
  if ('directory' in pool) return pool;
  throw new UnderstudyError(
    'Invalid',
    `pool "${pool.name}" consists of devices, which this version cannot use: make a filesystem on them and give it a directory`,
  );
}
