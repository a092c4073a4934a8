import { spawn } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../support/wait-for.ts';

/** The agent's program, bundled. */
const program = process.env.UNDERSTUDY ?? '';
/** Everything is slow in an emulated machine, and slower when the one below it is busy. */
export const patienceMs = 120_000;

/** An agent as in the virtual machine, with everything it has below one folder. */
export class GuestAgent {
  readonly #config: string;
  readonly #log: string;
  readonly #api: string;
  readonly mirrorAddress: string;
  #pid: number | undefined;

  constructor(node: string, port: number, { directory = `/tmp/${node}`, attach = 'auto' } = {}) {
    this.#config = join(directory, 'agent.yaml');
    this.#log = join(directory, 'agent.log');
    this.#api = `127.0.0.1:${port}`;
    this.mirrorAddress = `127.0.0.1:${port + 1}`;
    const pools = ['main', 'buffer'].map((name) => ({ name, directory: join(directory, name) }));
    for (const pool of pools) mkdirSync(pool.directory, { recursive: true });
    const config = {
      node,
      stateDirectory: join(directory, 'state'),
      pools,
      api: { listen: this.#api },
      mirror: { listen: this.mirrorAddress },
      nbd: { directory: join(directory, 'nbd') },
      attach,
      tls: { insecure: true },
    };
    writeFileSync(this.#config, JSON.stringify(config));
  }

  get pid(): number {
    return this.#pid ?? 0;
  }

  /** Resolves when it is ready, what its predecessor left recovered. */
  async start(): Promise<void> {
    const output = openSync(this.#log, 'a');
    const child = spawn(process.execPath, [program, 'agent', '--config', this.#config], {
      stdio: ['ignore', output, output],
    });
    this.#pid = child.pid;
    const isReady = async () => {
      if (child.exitCode !== null) throw new Error(`the agent has ended:\n${this.log()}`);
      return fetch(`http://${this.#api}/v1/mounts`).then(
        ({ ok }) => ok,
        () => false,
      );
    };
    await waitFor(isReady, { timeoutMs: patienceMs, intervalMs: 100, what: 'the agent to be ready' });
  }

  /** SIGKILL; resolves when it is gone, its sockets with it. */
  async kill(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGKILL');
    await waitFor(() => !isRunning(pid), { timeoutMs: patienceMs, what: 'the end of the agent' });
  }

  /** SIGTERM; resolves when it has ended in order. */
  async stop(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGTERM');
    await waitFor(() => !isRunning(pid), { timeoutMs: patienceMs, what: 'the orderly end of the agent' });
  }

  async call<Body>(method: string, path: string, body?: object): Promise<Body> {
    const response = await fetch(`http://${this.#api}${path}`, {
      method,
      ...(body ? { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } } : {}),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}\n${this.log()}`);
    return (text === '' ? {} : JSON.parse(text)) as Body;
  }

  /** The end of what it has logged. */
  log(): string {
    return readFileSync(this.#log, 'utf8').split('\n').slice(-25).join('\n');
  }
}

function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';
  } catch {
    return false;
  }
}
