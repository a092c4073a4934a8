import { type DestinationStream, pino } from 'pino';
import { z } from 'zod';
import type { Log } from './log.ts';

export const logLevelSchema = z.enum(['debug', 'info', 'warn', 'error', 'silent']);
export type LogLevel = z.output<typeof logLevelSchema>;

/**
 * The root logger of a process: one JSON object a line, on standard output unless told otherwise. Components log to
 * children of it with stable keys (`component`, `volume`, `mirror`, `snapshot`, `epoch`).
 *
 * Errors are logged under the key `error`: `log.error({ volume, error }, 'cannot open the volume')`.
 */
export function createLog(level: LogLevel, destination?: DestinationStream): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: pino.stdSerializers.errWithCause },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
