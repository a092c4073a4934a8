import { agentConfigSchema } from '../agent/config.ts';
import { startAgent } from '../agent/main.ts';
import { guardAgainstMemoryPressure } from '../agent/memory-pressure.ts';
import { raisePriority } from '../agent/priority.ts';
import { systemClock } from '../common/clock.ts';
import { loadConfig } from '../common/config.ts';
import { createLog } from '../common/logging.ts';
import type { Service } from './run-service.ts';

export async function agentService(configFile: string, version: string): Promise<Service> {
  const config = await loadConfig(configFile, agentConfigSchema);
  const log = createLog(config.log.level);
  guardAgainstMemoryPressure(log.child({ component: 'memory' }));
  raisePriority(log);
  const agent = await startAgent(config, { version, clock: systemClock, log });
  return { log, stop: () => agent.stop() };
}
