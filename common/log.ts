/** What a component logs to: the part of pino's logger that is used here, so that tests can pass a silent one. */
export interface Log {
  debug(labels: object, message: string): void;
  info(labels: object, message: string): void;
  warn(labels: object, message: string): void;
  error(labels: object, message: string): void;
  child(labels: object): Log;
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};
