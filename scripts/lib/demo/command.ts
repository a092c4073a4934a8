import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** The two nodes that this machine plays. */
export type DemoNode = 'node-a' | 'node-b';

/**
 * Two nodes do not share processors. With two cores or more, what runs on a node stays on that node's core, so that the
 * figures show what work on the standby costs the primary, and not what two programs on one core cost each other.
 */
export function coreLauncher(node: DemoNode): string[] {
  return availableParallelism() < 2 ? [] : ['taskset', '--cpu-list', cores[node]];
}

const cores: Record<DemoNode, string> = { 'node-a': '0', 'node-b': '1' };

/** Moves this process, with what runs in it, to a node. */
export async function moveTo(node: DemoNode): Promise<void> {
  if (availableParallelism() < 2) return;
  await run(['taskset', '--all-tasks', '--cpu-list', '--pid', cores[node], String(process.pid)]);
}

export interface CommandOptions {
  node?: DemoNode;
  cwd?: string;
  env?: Record<string, string>;
  /** Exit codes besides 0 that are no failure. */
  accept?: readonly number[];
  /** Ends it early. */
  signal?: AbortSignal;
}

/**
 * Runs a command to its end and returns what it printed.
 * @throws Error with what it said, if it fails.
 */
export async function run(command: string[], options: CommandOptions = {}): Promise<{ code: number; output: string }> {
  const [program = '', ...args] = [...(options.node ? coreLauncher(options.node) : []), ...command];
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    signal: options.signal,
    env: { ...process.env, ...options.env },
  });
  const pieces: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => pieces.push(piece));
  const [code] = (await once(child, 'close')) as [number | null];
  const output = Buffer.concat(pieces).toString().trim();
  if (code !== 0 && !options.accept?.includes(code ?? -1)) {
    throw new Error(`${command.join(' ')} failed (${code ?? 'killed'}): ${output.split('\n').slice(-5).join(' | ')}`);
  }
  return { code: code ?? -1, output };
}

/** Starts a program that goes on, with what it prints in a file. */
export function start(node: DemoNode, command: string[], logFile: string): ChildProcess {
  const [program = '', ...args] = [...coreLauncher(node), ...command];
  const log = openSync(logFile, 'a');
  // In a group of its own: Ctrl-C is for the demo, which ends its programs in order.
  const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  return child;
}

/** Ends a program: with the given signal, and for good after ten seconds. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill(signal);
  const impatience = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await exit;
  clearTimeout(impatience);
}
