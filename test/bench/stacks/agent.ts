import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { routes } from '../../../agent/api/contract/routes.ts';
import type { MirrorView, VolumeView } from '../../../agent/api/contract/volumes.ts';
import { HttpAgentClient } from '../../../operator/agent-client/http-agent-client.ts';
import { type Daemon, startDaemon } from '../../kubernetes/control-plane/daemon.ts';
import { freePorts } from '../../kubernetes/control-plane/ports.ts';
import type { Certificate, TestAuthority } from '../../support/certificates.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';
import { onCore } from '../command.ts';

const program = resolve(import.meta.dirname, '../../../bin/understudy.ts');

export interface BenchAgentOptions {
  readonly node: string;
  readonly core?: number;
  /** Mutual TLS on all its ports, with certificates of this authority. */
  readonly authority?: TestAuthority;
  readonly attach?: 'none' | 'fuse';
}

/** An agent in a process of its own, with a pool for volumes and one for buffers. */
export class BenchAgent {
  readonly node: string;
  readonly mirrorAddress: string;
  readonly client: HttpAgentClient;
  readonly url: string;
  readonly folder: string;
  readonly #command: readonly string[];
  #daemon: Daemon | undefined;

  private constructor(
    node: string,
    folder: string,
    addresses: { api: string; mirror: string },
    client: HttpAgentClient,
    command: readonly string[],
  ) {
    this.node = node;
    this.folder = folder;
    this.mirrorAddress = addresses.mirror;
    this.url = `http://${addresses.api}`;
    this.client = client;
    this.#command = command;
  }

  static async start(bench: Bench, options: BenchAgentOptions): Promise<BenchAgent> {
    const { node, core, authority, attach = 'none' } = options;
    const folder = await bench.folder(node);
    const [api = 0, mirror = 0] = await freePorts(2);
    const addresses = { api: `127.0.0.1:${api}`, mirror: `127.0.0.1:${mirror}` };
    const tls = authority && writeCertificate(folder, authority, await authority.issue({ role: 'node', name: node }));
    const config = configOf(node, folder, addresses, attach, tls);
    const configFile = join(folder, 'agent.yaml');
    writeFileSync(configFile, stringify(config));
    const url = `${authority ? 'https' : 'http'}://${addresses.api}`;
    const operator = authority && { ca: authority.ca, ...(await authority.issue({ role: 'operator', name: 'bench' })) };
    const client = new HttpAgentClient({ node, url, tls: operator, writeTimeoutMs: 600_000 });
    const command = onCore(core, [
      process.execPath,
      ...bench.options.nodeFlags,
      program,
      'agent',
      '--config',
      configFile,
    ]);
    bench.note(command);
    const agent = new BenchAgent(node, folder, addresses, client, command);
    bench.cleanUp(() => agent.stop('SIGTERM'));
    await agent.start();
    return agent;
  }

  get pid(): number {
    if (!this.#daemon) throw new Error(`the agent of ${this.node} does not run`);
    return this.#daemon.pid;
  }

  /** Resolves when its API answers. */
  async start(): Promise<void> {
    const logFile = join(this.folder, 'agent.log');
    const daemon = startDaemon(`agent ${this.node}`, this.#command, { logFile });
    this.#daemon = daemon;
    const isUp = async () => {
      if (!daemon.running()) throw new Error(`the agent of ${this.node} ended:\n${daemon.logTail()}`);
      return this.client.listVolumes().then(
        () => true,
        () => false,
      );
    };
    await waitFor(isUp, { timeoutMs: 60_000, what: `the agent of ${this.node}` });
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#daemon?.stop(signal, 60_000);
  }

  async volume(name: string): Promise<VolumeView> {
    const view = await this.client.getVolume(name);
    if (!view) throw new Error(`the agent of ${this.node} has no volume ${name}`);
    return view;
  }

  /** The only mirror of a volume. */
  async mirror(volume: string): Promise<MirrorView> {
    const [mirror] = (await this.volume(volume)).mirrors;
    if (!mirror) throw new Error(`volume ${volume} of ${this.node} has no mirror`);
    return mirror;
  }

  async isReady(): Promise<boolean> {
    return fetch(this.url + routes.readyz).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  /** A field of /proc/<pid>/status, e.g. VmRSS, in bytes. */
  statusBytes(field: string): number {
    const match = readFileSync(`/proc/${this.pid}/status`, 'utf8').match(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm'));
    return Number(match?.[1] ?? Number.NaN) * 1024;
  }

  /** Bytes given to write calls since its start: to files, and to sockets. */
  writtenBytes(): number {
    return Number(readFileSync(`/proc/${this.pid}/io`, 'utf8').match(/^wchar: (\d+)$/m)?.[1] ?? Number.NaN);
  }
}

function configOf(
  node: string,
  folder: string,
  addresses: { api: string; mirror: string },
  attach: string,
  tls: object | undefined,
): object {
  const pools = ['main', 'buffer'].map((name) => ({ name, directory: join(folder, name) }));
  for (const { directory } of pools) mkdirSync(directory);
  return {
    node,
    stateDirectory: join(folder, 'state'),
    pools,
    api: { listen: addresses.api },
    mirror: { listen: addresses.mirror },
    nbd: { directory: join(folder, 'nbd') },
    attach,
    arbiter: 'none',
    tls: tls ?? { insecure: true },
  };
}

function writeCertificate(folder: string, { ca }: TestAuthority, { cert, key }: Certificate): object {
  const files = { ca: join(folder, 'ca.pem'), cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  writeFileSync(files.ca, ca);
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key, { mode: 0o600 });
  return files;
}
