import { systemClock } from '../common/clock.ts';
import { loadConfig } from '../common/config.ts';
import { createLog } from '../common/logging.ts';
import { operatorConfigSchema } from '../operator/config.ts';
import { runOperator } from '../operator/main.ts';
import type { Service } from './run-service.ts';

export async function operatorService(configFile: string, version: string): Promise<Service> {
  const config = await loadConfig(configFile, operatorConfigSchema);
  const log = createLog(config.log.level);
  const operator = await runOperator({ config, version, clock: systemClock, log });
  return { log, stop: () => operator.stop() };
}
