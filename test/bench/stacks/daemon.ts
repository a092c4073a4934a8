import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Daemon, startDaemon } from '../../kubernetes/control-plane/daemon.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';

/** Starts a program that serves on a unix socket; resolves when the socket is there. */
export async function startExport(
  bench: Bench,
  name: string,
  folder: string,
  socket: string,
  command: readonly string[],
): Promise<Daemon> {
  bench.note(command);
  const daemon = startDaemon(name, command, { logFile: join(folder, `${name}.log`) });
  bench.cleanUp(() => daemon.stop('SIGTERM'));
  const isUp = () => {
    if (!daemon.running()) throw new Error(`${name} ended:\n${daemon.logTail()}`);
    return existsSync(socket);
  };
  await waitFor(isUp, { timeoutMs: 30_000, what: `${name} to serve ${socket}` });
  return daemon;
}
