import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';

/** Puts a command on one core, where the machine has more than one. */
export function onCore(core: number | undefined, command: readonly string[]): readonly string[] {
  if (core === undefined || availableParallelism() < 2) return command;
  return ['taskset', '--cpu-list', String(core), ...command];
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end. When the signal aborts it is ended, which is then no failure.
 * @throws Error with what it said, if it fails.
 */
export async function run(command: readonly string[], signal?: AbortSignal): Promise<CommandResult> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const pieces: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout.on('data', (piece: Buffer) => pieces.stdout.push(piece));
  child.stderr.on('data', (piece: Buffer) => pieces.stderr.push(piece));
  const abort = () => void child.kill();
  signal?.addEventListener('abort', abort);
  const [code] = (await once(child, 'close')) as [number | null];
  signal?.removeEventListener('abort', abort);
  const result = { stdout: Buffer.concat(pieces.stdout).toString(), stderr: Buffer.concat(pieces.stderr).toString() };
  if (code !== 0 && !signal?.aborted) {
    const said = `${result.stderr}${result.stdout}`.trim().split('\n').slice(-5).join(' | ');
    throw new Error(`${command.join(' ')} ended with ${code ?? 'a signal'}: ${said}`);
  }
  return result;
}
