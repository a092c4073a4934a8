import type { ChildProcess } from 'node:child_process';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, existsSync, globSync, openSync, readFileSync } from 'node:fs';
import { appendFile, chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { waitFor } from './wait-for.ts';

const run = promisify(execFile);

/**
 * Durable settings, and caches smaller than the data so that pages go to the disk all the time. Frequent
 * checkpoints, as on a busy server that has to recover quickly.
 */
const configuration = `
fsync = on
full_page_writes = on
synchronous_commit = on
listen_addresses = ''
max_connections = 20
wal_level = minimal
max_wal_senders = 0
shared_buffers = 32MB
checkpoint_timeout = 30s
recovery_init_sync_method = syncfs
max_wal_size = 64MB
min_wal_size = 32MB
log_checkpoints = on
`;

/** The folder with initdb and postgres of the newest installed release, or undefined if there is none. */
export function findPostgres(): string | undefined {
  const folders = globSync('/usr/lib/postgresql/*/bin').filter((folder) => existsSync(join(folder, 'postgres')));
  return folders.sort((a, b) => release(a) - release(b)).at(-1);
}

const release = (folder: string) => Number(folder.split('/').at(-2));

/** PostgreSQL refuses to run as root: then it runs as the user that its package made. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

export interface PostgresOptions {
  /** Where the data is or will be; its parent must exist, and be reachable for user postgres if we are root. */
  dataDirectory: string;
  /** An existing folder for the unix socket, which is the only way in; it becomes the server user's. */
  socketDirectory: string;
  /** What the server prints is appended here. */
  logFile: string;
  /** A command that runs the server as its arguments, such as taskset or nice. */
  launcher?: readonly string[];
}

/** A throw-away PostgreSQL server on one data directory. */
export class PostgresServer {
  readonly options: PostgresOptions;
  readonly #binaries: string;
  readonly #user = serverUser();
  #process: ChildProcess | undefined;

  constructor(options: PostgresOptions) {
    const binaries = findPostgres();
    if (binaries === undefined) throw new Error('PostgreSQL is not installed: apt-get install postgresql');
    this.options = options;
    this.#binaries = binaries;
  }

  /** Makes a new database with page checksums. Blocks nothing: a relay in this process may be part of what the data is written to. */
  async initialise(): Promise<void> {
    const { dataDirectory } = this.options;
    await mkdir(dataDirectory, { mode: 0o700 });
    if (this.#user) await chown(dataDirectory, this.#user.uid, this.#user.gid);
    const flags = ['--auth=trust', '--username=postgres', '--data-checksums', '--locale=C', '--encoding=UTF8'];
    await run(join(this.#binaries, 'initdb'), [...flags, '--pgdata', dataDirectory], {
      ...this.#user,
      cwd: '/',
    });
    // Synced, as initdb syncs everything it writes: after a power cut, what ext4 had appended without it may be zeroes.
    await appendFile(join(dataDirectory, 'postgresql.conf'), configuration, { flush: true });
  }

  /** Before a copy of another server's data directory is started: that server's lock file came with it. */
  async removeForeignLock(): Promise<void> {
    await rm(join(this.options.dataDirectory, 'postmaster.pid'), { force: true });
  }

  /**
   * Starts it on what the data directory holds, recovering from a crash if need be, and waits until it answers.
   * @throws Error with the server's last words if it ends instead.
   */
  async start(timeoutMs = 60_000): Promise<void> {
    const { dataDirectory, socketDirectory, logFile, launcher = [] } = this.options;
    if (this.#user) chownSync(socketDirectory, this.#user.uid, this.#user.gid);
    const log = openSync(logFile, 'a');
    const command = [...launcher, join(this.#binaries, 'postgres'), '-D', dataDirectory, '-k', socketDirectory];
    const child = spawn(command[0] ?? '', command.slice(1), {
      ...this.#user,
      cwd: '/',
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#process = child;
    try {
      await waitFor(() => this.#answers(), { timeoutMs, what: `PostgreSQL on ${dataDirectory} to answer` });
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  async #answers(): Promise<boolean> {
    if (!this.running) throw new Error(`PostgreSQL did not start: ${this.lastWords()}`);
    try {
      await (await this.connect()).end();
      return true;
    } catch {
      return false;
    }
  }

  get running(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** A new connection; the caller ends it. */
  async connect(): Promise<Client> {
    const client = new Client({ host: this.options.socketDirectory, user: 'postgres', database: 'postgres' });
    // Without a listener, the end of the server would end this process. Queries under way are rejected all the same.
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** Ends all sessions, takes a last checkpoint and waits for the end. */
  async stop(): Promise<void> {
    await this.#end(() => this.#process?.kill('SIGINT'));
  }

  /** Ends every process of the server at once, as a power cut would, and waits until they are gone. */
  async kill(): Promise<void> {
    let sessions: number[] = [];
    await this.#end(() => {
      const pid = this.#process?.pid;
      if (pid === undefined) return;
      // Stopped first, so that it starts no more.
      process.kill(pid, 'SIGSTOP');
      sessions = childrenOf(pid);
      for (const each of [pid, ...sessions]) killIfThere(each);
    });
    await waitFor(() => !sessions.some(isAlive), { timeoutMs: 30_000, what: 'the processes of PostgreSQL to end' });
  }

  async #end(signal: () => void): Promise<void> {
    const child = this.#process;
    if (child && this.running) {
      const exit = once(child, 'exit');
      signal();
      await exit;
    }
    this.#process = undefined;
  }

  /** The last lines of the log that report an error, or simply the last ones. */
  lastWords(): string {
    const lines = existsSync(this.options.logFile) ? readFileSync(this.options.logFile, 'utf8').trim().split('\n') : [];
    // What it said to us while we waited for it is no error of its own.
    const errors = lines.filter((line) => /\b(FATAL|PANIC|ERROR):(?!.*the database system is )/.test(line));
    return (errors.length > 0 ? errors : lines).slice(-3).join(' | ');
  }
}

function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  return existsSync(path) ? readFileSync(path, 'utf8').split(' ').filter(Boolean).map(Number) : [];
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** A process that has ended and was not waited for has no command line any more. */
function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`).length > 0;
  } catch {
    return false;
  }
}
