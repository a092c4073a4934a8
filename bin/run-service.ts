import { systemClock } from '../common/clock.ts';
import { errorCode, errorMessage } from '../common/errors.ts';
import type { Log } from '../common/log.ts';

/** A little less than the 30 seconds after which Kubernetes kills a container. */
const stopTimeoutMs = 25_000;

/** What is told to end while it still starts, and cannot, is ended. */
const startTimeoutMs = 10_000;

/** Something that runs until it is told to stop. */
export interface Service {
  readonly log: Log;
  /** Ends everything in order. */
  stop(): Promise<void>;
}

/**
 * Starts a service and has it stopped by SIGTERM or SIGINT, also by one that comes while it starts. A second signal ends
 * the process at once, and so does the deadline. The exit status is 0 after an orderly end, else 1.
 *
 * The process ends when the service has stopped: a handle that somebody forgot must not keep a container alive.
 */
export async function runService(start: () => Promise<Service>): Promise<void> {
  keepAlive();
  const signalled = untilSignal();
  let started = false;
  void signalled.then(() => systemClock.after(startTimeoutMs, () => started || process.exit(1)));
  let service: Service;
  try {
    service = await start();
  } catch (error) {
    process.stderr.write(`understudy: ${describe(error)}\n`);
    process.exit(1);
  }
  started = true;
  const { log } = service;
  process.on('uncaughtException', (error) => {
    log.error({ error }, 'a defect: ending the process');
    process.exit(1);
  });
  log.info({ signal: await signalled }, 'stopping');
  const deadline = systemClock.after(stopTimeoutMs, () => {
    log.error({ timeoutMs: stopTimeoutMs }, 'did not stop in time');
    process.exit(1);
  });
  try {
    await service.stop();
    deadline.cancel();
  } catch (error) {
    log.error({ error }, 'did not stop in order');
    process.exit(1);
  }
  log.info({}, 'stopped');
  process.exit(0);
}

/**
 * Timers of the clock do not keep the process alive, and neither does the wait for a signal: a service that only waits for
 * something before it listens anywhere would end without a word.
 */
function keepAlive(): void {
  setInterval(() => {}, 2 ** 30);
}

function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let stopping = false;
    const onSignal = (signal: NodeJS.Signals) => {
      if (stopping) process.exit(1);
      stopping = true;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

/** What somebody can put right is told in words; a defect is shown with the place where it happened. */
function describe(error: unknown): string {
  if (errorCode(error) !== 'Internal' || !(error instanceof Error)) return errorMessage(error);
  return error.stack ?? errorMessage(error);
}
