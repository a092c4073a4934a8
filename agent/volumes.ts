import { join } from 'node:path';
import type { AgentContext } from './agent-context.ts';
import type { TlsMaterial } from './api/listener.ts';
import type { AgentConfig, PoolConfig } from './config.ts';
import type { Arbiter } from './mirror/arbiter.ts';
import { NbdGatewayHost } from './volume/nbd-gateway-host.ts';
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

/** The NBD port for other machines, if the configuration has one. @throws UnderstudyError Unavailable */
export async function startNbdGateway(
  { nbd: { listen, directory, exports } }: AgentConfig,
  tls: TlsMaterial | undefined,
  { clock, log }: AgentContext,
): Promise<NbdGatewayHost | undefined> {
  if (listen === undefined) return undefined;
  const nbdLog = log.child({ component: 'nbd' });
  const gateway = await NbdGatewayHost.start({ listen, directory, exports, tls }, clock, nbdLog);
  nbdLog.info({ listen, port: gateway.port, exports }, 'NBD clients of other machines are served');
  return gateway;
}

/** The folders of volumes on raw devices are in the agent's state directory. */
function poolOf(pool: PoolConfig, stateDirectory: string): Pool {
  if ('directory' in pool) return pool;
  const { name, devices } = pool;
  return { name, devices, directory: join(stateDirectory, 'device-pools', name) };
}
