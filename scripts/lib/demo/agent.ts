import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import type { MountView } from '../../../agent/api/contract/mounts.ts';
import { routePath, routes } from '../../../agent/api/contract/routes.ts';
import { HttpAgentClient } from '../../../operator/agent-client/http-agent-client.ts';
import { waitFor } from '../../../test/support/wait-for.ts';
import { type DemoNode, end, start } from './command.ts';

export const understudy = resolve(import.meta.dirname, '../../../bin/understudy.ts');

export interface AgentOptions {
  node: DemoNode;
  /** A folder for its state, sockets, log and configuration. */
  folder: string;
  /** Where its pools are, by name. */
  pools: Record<string, string>;
  attach: 'auto' | 'none';
  /** Of the API server whose record says which copy is the primary. */
  kubeconfig: string;
}

/** An agent in a process of its own, as on a node of its own. */
export class DemoAgent {
  readonly node: DemoNode;
  readonly url: string;
  readonly mirrorAddress: string;
  readonly logFile: string;
  readonly client: HttpAgentClient;
  readonly #command: string[];
  #process: ChildProcess;

  static async start(options: AgentOptions): Promise<DemoAgent> {
    const [apiPort, mirrorPort] = await freePorts(2);
    return new DemoAgent(options, `127.0.0.1:${apiPort}`, `127.0.0.1:${mirrorPort}`);
  }

  /** Resolves when its API answers. @throws Error with what it said if it ends instead. */
  async ready(): Promise<void> {
    await waitFor(() => this.#isReady(), { timeoutMs: 30_000, what: `the agent of ${this.node} to be ready` });
  }

  private constructor(
    { node, folder, pools, attach, kubeconfig }: AgentOptions,
    apiAddress: string,
    mirrorAddress: string,
  ) {
    this.node = node;
    this.url = `http://${apiAddress}`;
    this.mirrorAddress = mirrorAddress;
    this.logFile = join(folder, 'agent.log');
    this.client = new HttpAgentClient({ node, url: this.url });
    const configFile = join(folder, 'agent.yaml');
    mkdirSync(folder, { recursive: true });
    const config = {
      node,
      stateDirectory: join(folder, 'state'),
      pools: Object.entries(pools).map(([name, directory]) => ({ name, directory })),
      api: { listen: apiAddress },
      mirror: { listen: mirrorAddress },
      nbd: { directory: join(folder, 'nbd') },
      attach,
      arbiter: 'kubernetes',
      kubernetes: { kubeconfig },
      tls: { insecure: true },
    };
    writeFileSync(configFile, stringify(config));
    this.#command = [process.execPath, understudy, 'agent', '--config', configFile];
    this.#process = start(node, this.#command, this.logFile);
  }

  /** Starts it again after its end, as it was. Resolves when its API answers. */
  async restart(): Promise<void> {
    this.#process = start(this.node, this.#command, this.logFile);
    await this.ready();
  }

  async #isReady(): Promise<boolean> {
    if (!this.isRunning) {
      throw new Error(`the agent of ${this.node} ended: ${readFileSync(this.logFile, 'utf8').slice(-1000)}`);
    }
    try {
      return (await fetch(this.url + routes.readyz)).ok;
    } catch {
      return false;
    }
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Ends it in order, or with SIGKILL as a crash would. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    await end(this.#process, signal);
  }

  async mountVolume(volume: string, mount: string, request: object): Promise<MountView> {
    return this.#request('PUT', routePath(routes.volumeMount, { volume, mount }), request);
  }

  async mountSnapshot(volume: string, snapshot: string, mount: string, target: string): Promise<MountView> {
    return this.#request('PUT', routePath(routes.snapshotMount, { volume, snapshot, mount }), { target });
  }

  async unmountVolume(volume: string, mount: string): Promise<void> {
    await this.#request('DELETE', routePath(routes.volumeMount, { volume, mount }));
  }

  async unmountSnapshot(volume: string, snapshot: string, mount: string): Promise<void> {
    await this.#request('DELETE', routePath(routes.snapshotMount, { volume, snapshot, mount }));
  }

  /** Whatever the operator has no use for, and so is not in its client. */
  async #request<T>(method: string, path: string, body?: object): Promise<T> {
    const response = await fetch(this.url + path, {
      method,
      ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${this.url}${path} answered ${response.status}: ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }
}

async function freePorts(count: number): Promise<number[]> {
  // All are open at once, so that they differ.
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((done) => {
          server.once('listening', () => done((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
