import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { routePath, routes } from '../../../agent/api/contract/routes.ts';
import type { VolumeView } from '../../../agent/api/contract/volumes.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type Daemon, startDaemon } from '../control-plane/daemon.ts';
import { freePorts } from '../control-plane/ports.ts';
import { projectDirectory } from '../control-plane.ts';

/** The agent of one node, as a process of its own with its folders below one temporary directory. */
export interface AgentProcess {
  readonly node: string;
  readonly apiAddress: string;
  /** Of the process that runs now. */
  readonly pid: number;
  readonly mirrorAddress: string;
  /** The pools by name, as its configuration has them. */
  readonly pools: Readonly<Record<string, string>>;
  volumes(): Promise<VolumeView[]>;
  deleteVolume(name: string): Promise<void>;
  /** The directory below which everything of it is. */
  readonly directory: string;
  /** What is in the pools: nothing, once every volume and buffer is gone. */
  poolContents(): Promise<string[]>;
  kill(): Promise<void>;
  /** Stops and continues it, as a node that hangs. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  start(): Promise<void>;
  /** Ends it and removes its directory. */
  remove(): Promise<void>;
  logTail(): string;
}

const program = join(projectDirectory, 'bin', 'understudy.ts');

/** Starts an agent on loopback, without TLS and, unless told, without mounts, with the pools "main" and "buffer"; `more` is added to its configuration. */
export async function startAgent(
  node: string,
  attach: 'none' | 'fuse' = 'none',
  more: (directory: string) => object = () => ({}),
  resyncBytesPerSecond?: number,
): Promise<AgentProcess> {
  // Short, since the path of a unix socket is limited.
  const directory = await mkdtemp(join(tmpdir(), 'us-'));
  const pools = { main: join(directory, 'main'), buffer: join(directory, 'buffer') };
  for (const pool of Object.values(pools)) await mkdir(pool);
  const [apiPort = 0, mirrorPort = 0] = await freePorts(2);
  const apiAddress = `127.0.0.1:${apiPort}`;
  const mirrorAddress = `127.0.0.1:${mirrorPort}`;
  const config = join(directory, 'agent.yaml');
  const content = {
    node,
    stateDirectory: join(directory, 'state'),
    pools: Object.entries(pools).map(([name, path]) => ({ name, directory: path })),
    api: { listen: apiAddress },
    mirror: { listen: mirrorAddress, ...(resyncBytesPerSecond === undefined ? {} : { resyncBytesPerSecond }) },
    nbd: { directory: join(directory, 'nbd') },
    attach,
    arbiter: 'none',
    tls: { insecure: true },
    ...more(directory),
  };
  // JSON is YAML.
  await writeFile(config, JSON.stringify(content, null, 2));
  const logFile = join(directory, 'agent.log');

  const ask = (path: string, method = 'GET') => fetch(`http://${apiAddress}${path}`, { method });
  let daemon: Daemon | undefined;
  const start = async () => {
    const started = startDaemon(`agent ${node}`, [process.execPath, program, 'agent', '--config', config], { logFile });
    daemon = started;
    const isReady = async () => !started.running() || (await answers(ask(routes.readyz)));
    await waitFor(isReady, { timeoutMs: 60_000, intervalMs: 100 }).catch(() => {});
    if (!started.running() || !(await answers(ask(routes.readyz)))) {
      throw new Error(`the agent of ${node} did not come up:\n${started.logTail(20)}`);
    }
  };
  await start();

  return {
    node,
    directory,
    apiAddress,
    get pid() {
      return daemon?.pid ?? 0;
    },
    mirrorAddress,
    pools,
    volumes: async () => (await (await ask(routes.volumes)).json()) as VolumeView[],
    deleteVolume: async (volume) => {
      const { ok, status } = await ask(routePath(routes.volume, { volume }), 'DELETE');
      if (!ok) throw new Error(`the agent of ${node} answered ${status} to the deletion of ${volume}`);
    },
    poolContents: async () => (await Promise.all(Object.values(pools).map((path) => readdir(path)))).flat(),
    kill: async () => daemon?.stop('SIGKILL'),
    signal: (signal) => void (daemon && process.kill(daemon.pid, signal)),
    start,
    remove: async () => {
      await daemon?.stop('SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
    logTail: () => daemon?.logTail(30) ?? '',
  };
}

async function answers(response: Promise<Response>): Promise<boolean> {
  return await response.then(
    ({ ok }) => ok,
    () => false,
  );
}
