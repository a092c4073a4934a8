import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '../../support/wait-for.ts';
import { type Daemon, startDaemon } from '../control-plane/daemon.ts';
import { freePorts } from '../control-plane/ports.ts';
import { projectDirectory } from '../control-plane.ts';
import type { AgentProcess } from './agent-process.ts';

/** The operator as a process of its own. */
export interface OperatorProcess {
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Stops and continues it, as a node that hangs. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  /** What its readiness probe answers; undefined if nothing. */
  health(): Promise<{ ready: boolean; role: 'leader' | 'standby' } | undefined>;
  metrics(): Promise<string>;
  /** Of the process that was started last. */
  pid(): number;
  /** Ends it and removes its files. */
  remove(): Promise<void>;
  logTail(): string;
}

const program = join(projectDirectory, 'bin', 'understudy.ts');

/** Starts an operator for a cluster, with the agents it may use. */
export async function startOperator(
  kubeconfig: string,
  agents: readonly Pick<AgentProcess, 'node' | 'apiAddress' | 'mirrorAddress'>[],
  extra: object = {},
): Promise<OperatorProcess> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-operator-'));
  const [port = 0] = await freePorts(1);
  const config = join(directory, 'operator.yaml');
  const content = {
    kube: { kubeconfig },
    agents: agents.map(({ node, apiAddress, mirrorAddress }) => ({ node, url: `http://${apiAddress}`, mirrorAddress })),
    health: { listen: `127.0.0.1:${port}` },
    ...extra,
  };
  // JSON is YAML.
  await writeFile(config, JSON.stringify(content, null, 2));
  const logFile = join(directory, 'operator.log');

  let daemon: Daemon | undefined;
  const start = async () => {
    const started = startDaemon('operator', [process.execPath, program, 'operator', '--config', config], { logFile });
    daemon = started;
    const ready = () =>
      fetch(`http://127.0.0.1:${port}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
    await waitFor(async () => !started.running() || (await ready()), { timeoutMs: 60_000, intervalMs: 100 });
    if (!started.running()) throw new Error(`the operator did not come up:\n${started.logTail(20)}`);
  };
  await start();

  return {
    kill: async () => daemon?.stop('SIGKILL'),
    stop: async () => daemon?.stop('SIGTERM'),
    start,
    signal: (signal) => void (daemon && process.kill(daemon.pid, signal)),
    health: async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(
        () => undefined,
      );
      if (answer === undefined) return undefined;
      const { role } = (await answer.json()) as { role: 'leader' | 'standby' };
      return { ready: answer.ok, role };
    },
    pid: () => daemon?.pid ?? 0,
    metrics: async () => await (await fetch(`http://127.0.0.1:${port}/metrics`)).text(),
    remove: async () => {
      await daemon?.stop('SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
    logTail: () => daemon?.logTail(30) ?? '',
  };
}
