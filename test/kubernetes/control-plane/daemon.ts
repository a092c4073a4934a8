import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';

/** A long-running process of the test, with its output in a file. */
export interface Daemon {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  running(): boolean;
  /** The last lines it wrote, for the message of a test that failed. */
  logTail(lines?: number): string;
  /** Sends the signal and waits until the process has ended; SIGKILL follows when it does not end in time. */
  stop(signal: NodeJS.Signals, graceMs?: number): Promise<void>;
}

/** util-linux's setpriv asks the kernel to kill a daemon whose test runner dies, however it dies. */
const canDieWithParent = spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true']).status === 0;

/** Starts a program; its output is appended to `logFile`. It never outlives this process. */
export function startDaemon(
  name: string,
  command: readonly string[],
  options: { logFile: string; env?: NodeJS.ProcessEnv; cwd?: string },
): Daemon {
  const output = openSync(options.logFile, 'a');
  const [program = '', ...args] = canDieWithParent ? ['setpriv', '--pdeathsig', 'KILL', '--', ...command] : command;
  const child = spawn(program, args, {
    stdio: ['ignore', output, output],
    env: options.env ?? process.env,
    cwd: options.cwd,
    // Ctrl-C in a terminal goes to the whole process group; daemons are stopped in order instead.
    detached: true,
  });
  closeSync(output);
  child.on('error', () => {});
  child.unref();
  if (child.pid === undefined) throw new Error(`${name}: cannot start ${command.join(' ')}`);
  const pid = child.pid;
  return {
    name,
    pid,
    logFile: options.logFile,
    running: () => isRunning(child),
    logTail: (lines = 10) => readFileSync(options.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n'),
    stop: (signal, graceMs = 10_000) => stop(child, signal, graceMs),
  };
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

async function stop(child: ChildProcess, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!isRunning(child)) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  const killer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await exited;
  clearTimeout(killer);
}
