import type { Log } from '../../common/log.ts';

/** A line of a thread's log, on its way to the main thread. */
export interface LogMessage {
  readonly type: 'log';
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly labels: object;
  readonly message: string;
}

/** Logs by way of the main thread, so that the lines of all threads come out whole and in one place. */
export function portLog(bound: object, post: (message: LogMessage) => void): Log {
  const at = (level: LogMessage['level']) => (labels: object, message: string) =>
    post({ type: 'log', level, labels: { ...bound, ...labels }, message });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (labels) => portLog({ ...bound, ...labels }, post),
  };
}
