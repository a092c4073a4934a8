import { execFile, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Killed and given up after this long; 60 s unless told. */
  readonly timeoutMs?: number;
  /** Exit codes that are answers and not failures; only 0 unless told. */
  readonly acceptExitCodes?: readonly number[];
}

/** A process that goes on beside the agent. */
export interface Daemon {
  readonly pid: number;
  /** How it ended ("exit code 1"), or undefined while it runs. */
  readonly ended: string | undefined;
}

/** A process that is talked to over its standard input and output. */
export interface Dialogue {
  /** The next line that it writes, or undefined when it has written its last. */
  nextLine(): Promise<string | undefined>;
  /** Closes its standard input. */
  endInput(): void;
  /** Resolves when it has ended, with its exit code (-1 if it was killed) and what it wrote to standard error. */
  readonly ended: Promise<{ exitCode: number; stderr: string }>;
}

/** Every external program runs through this, so that tests can watch and interrupt. */
export interface Commands {
  /** @throws UnderstudyError Timeout; Unavailable if there is no such program; Io with what it wrote to standard error. */
  run(program: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Starts a process in a session of its own, so that a Ctrl-C meant for the agent does not reach it. */
  startDaemon(program: string, args: readonly string[], options: { outputFile: string }): Promise<Daemon>;
  startDialogue(program: string, args: readonly string[]): Dialogue;
  /** The path of a program, or undefined if it is not installed. */
  find(program: string): Promise<string | undefined>;
}

const defaultTimeoutMs = 60_000;
const maxOutputBytes = 1024 * 1024;

/** Messages are parsed and shown, hence not translated; administrators' programs are not in every PATH. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', PATH: searchPath().join(':') };
}

function searchPath(): string[] {
  const fromEnvironment = (process.env.PATH ?? '').split(':').filter((directory) => directory !== '');
  return [...new Set([...fromEnvironment, '/usr/sbin', '/usr/bin', '/sbin', '/bin'])];
}

export class SystemCommands implements Commands {
  readonly #clock: Clock;

  constructor(options: { clock: Clock }) {
    this.#clock = options.clock;
  }

  run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    return new Promise((resolve, reject) => {
      const settings = { env: environment(), maxBuffer: maxOutputBytes, killSignal: 'SIGKILL' as const };
      const child = execFile(program, args, settings, (error, stdout, stderr) => {
        timer.cancel();
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
        if (exitCode !== undefined && (options.acceptExitCodes ?? [0]).includes(exitCode)) {
          resolve({ exitCode, stdout, stderr });
        } else {
          reject(commandError(program, args, error, stderr));
        }
      });
      child.stdin?.end();
      // A process that waits for a disk may not die at once, or ever: the caller is told at the deadline all the same.
      const timer = this.#clock.after(timeoutMs, () => {
        child.kill('SIGKILL');
        const message = `${commandLine(program, args)} did not finish within ${timeoutMs} ms`;
        reject(new UnderstudyError('Timeout', message, { labels: { program } }));
      });
    });
  }

  async startDaemon(program: string, args: readonly string[], options: { outputFile: string }): Promise<Daemon> {
    const output = await open(options.outputFile, 'a', 0o600);
    try {
      const stdio = ['ignore' as const, output.fd, output.fd];
      const child = spawn(program, args, { detached: true, stdio, env: environment(), cwd: '/' });
      let ended: string | undefined;
      child.once('exit', (code, signal) => {
        ended = signal === null ? `exit code ${code}` : `killed by ${signal}`;
      });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (error) => reject(commandError(program, args, error, '')));
      });
      child.unref();
      return {
        pid: child.pid ?? -1,
        get ended() {
          return ended;
        },
      };
    } finally {
      await output.close();
    }
  }

  startDialogue(program: string, args: readonly string[]): Dialogue {
    const child = spawn(program, args, { detached: true, stdio: 'pipe', env: environment(), cwd: '/' });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-maxOutputBytes);
    });
    // Writing to a process that has ended is no failure of ours: its end is reported by `ended`.
    child.stdin.on('error', () => {});
    const ended = new Promise<{ exitCode: number; stderr: string }>((resolve) => {
      child.once('error', (error) => resolve({ exitCode: -1, stderr: error.message }));
      child.once('close', (code) => resolve({ exitCode: code ?? -1, stderr }));
    });
    // Reads ahead of whoever asks for lines: a process ends only when all that it said was read.
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      nextLine: async () => (await lines.next()).value,
      endInput: () => child.stdin.end(),
      ended,
    };
  }

  async find(program: string): Promise<string | undefined> {
    for (const directory of searchPath()) {
      const path = join(directory, program);
      const usable = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (usable) return path;
    }
    return undefined;
  }
}

function commandError(
  program: string,
  args: readonly string[],
  error: (Error & { code?: string | number | null; signal?: NodeJS.Signals | null }) | null,
  stderr: string,
): UnderstudyError {
  const labels = { program, ...(typeof error?.code === 'number' ? { exitCode: error.code } : {}) };
  if (error?.code === 'ENOENT') {
    return new UnderstudyError('Unavailable', `the program ${program} is not installed on this node`, { labels });
  }
  const reason = stderr.trim() || (error?.signal ? `killed by ${error.signal}` : (error?.message ?? 'failed'));
  return new UnderstudyError('Io', `${commandLine(program, args)}: ${reason}`, { labels });
}

function commandLine(program: string, args: readonly string[]): string {
  return [program, ...args].join(' ');
}
