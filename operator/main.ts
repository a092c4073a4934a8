import { readFile } from 'node:fs/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { type Address, parseAddress } from '../common/address.ts';
import type { Clock } from '../common/clock.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import { type AgentDirectory, staticAgentDirectory } from './agent-client/agent-client.ts';
import { HttpAgentClient } from './agent-client/http-agent-client.ts';
import type { AgentTls } from './agent-client/http-request.ts';
import type { OperatorConfig } from './config.ts';
import type { CsiControllerOptions } from './csi/start-csi-controller.ts';
import { startHealthServer } from './health-server.ts';
import { RealKubeApi } from './kube/real-kube-api.ts';
import { PrometheusMetrics } from './prometheus-metrics.ts';
import { startOperator } from './start-operator.ts';

export interface RunOperatorOptions {
  readonly config: OperatorConfig;
  /** Of Understudy. */
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface RunningOperator {
  /** Where the probes and metrics are, if they are anywhere. */
  readonly health: Address | undefined;
  stop(): Promise<void>;
}

/**
 * Starts the operator on a real cluster, as its configuration says. It starts although the API server or agents cannot be
 * reached yet: it goes on trying.
 * @throws UnderstudyError Invalid for what is wrong with the files that the configuration names
 */
export async function runOperator({ config, version, clock, log }: RunOperatorOptions): Promise<RunningOperator> {
  const metrics = new PrometheusMetrics(version);
  const api = new RealKubeApi(loadKubeConfig(config.kube), clock, {
    observe: (verb, status, seconds) => metrics.requested(verb, status, seconds),
    userAgent: `understudy-operator/${version}`,
  });
  const agents = await loadAgents(config, clock);
  const operator = startOperator({ api, agents, clock, log, metrics, namespace: config.namespace });
  metrics.useCensus(() => operator.census());
  const started = new AsyncDisposableStack();
  started.defer(() => operator.stop());
  try {
    const { health } = config;
    const isReady = () => operator.isReady();
    const server = health && (await startHealthServer(parseAddress(health.listen), isReady, metrics));
    started.defer(() => server?.stop());
    const csi =
      config.csi && (await serveSideCars(config.csi, { api, version, isReady, clock, log }, config.namespace));
    started.defer(() => csi?.close());
    log.info({ agents: agents.entries().map(({ node }) => node), health: server?.address }, 'operator started');
    return { health: server?.address, stop: () => started.disposeAsync() };
  } catch (error) {
    await started.disposeAsync();
    throw error;
  }
}

/** gRPC is loaded only where there is a CSI controller service. */
async function serveSideCars(
  csi: NonNullable<OperatorConfig['csi']>,
  parts: Pick<CsiControllerOptions, 'api' | 'version' | 'isReady' | 'clock' | 'log'>,
  namespace: string | undefined,
): Promise<{ close(): Promise<void> }> {
  const { startCsiController } = await import('./csi/start-csi-controller.ts');
  return startCsiController({ ...parts, socket: csi.socket, defaultNamespace: csi.namespace, namespace });
}

function loadKubeConfig(config: OperatorConfig['kube']): KubeConfig {
  if (config.inCluster && process.env.KUBERNETES_SERVICE_HOST === undefined) {
    throw new UnderstudyError(
      'Invalid',
      'kube.inCluster: this process is not in a pod (KUBERNETES_SERVICE_HOST is not set)',
    );
  }
  const kubeConfig = new KubeConfig();
  try {
    if (config.inCluster) kubeConfig.loadFromCluster();
    else if (config.kubeconfig === undefined) kubeConfig.loadFromDefault();
    else kubeConfig.loadFromFile(config.kubeconfig);
  } catch (cause) {
    const what = config.kubeconfig ?? 'the default kubeconfig';
    throw new UnderstudyError('Invalid', `cannot read ${what} (kube.kubeconfig)`, { cause });
  }
  if (config.context === undefined) return kubeConfig;
  if (kubeConfig.getContextObject(config.context) === null) {
    const known = kubeConfig.getContexts().map(({ name }) => name);
    throw new UnderstudyError('Invalid', `kube.context: expected one of ${known.join(', ')}, got "${config.context}"`);
  }
  kubeConfig.setCurrentContext(config.context);
  return kubeConfig;
}

async function loadAgents(config: OperatorConfig, clock: Clock): Promise<AgentDirectory> {
  const tls = config.tls && (await readTls(config.tls));
  return staticAgentDirectory(
    config.agents.map(({ node, url, mirrorAddress }) => ({
      node,
      mirrorAddress,
      client: new HttpAgentClient({ node, url, clock, tls: url.startsWith('https:') ? tls : undefined }),
    })),
  );
}

async function readTls(files: NonNullable<OperatorConfig['tls']>): Promise<AgentTls> {
  const read = async (file: string, key: string) => {
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      throw new UnderstudyError('Invalid', `cannot read ${file} (${key})`, { cause });
    }
  };
  return {
    ca: await read(files.ca, 'tls.ca'),
    cert: await read(files.cert, 'tls.cert'),
    key: await read(files.key, 'tls.key'),
  };
}
