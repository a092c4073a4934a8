import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { KubeConfig } from '@kubernetes/client-node';
import { type Address, parseAddress } from '../common/address.ts';
import type { Clock } from '../common/clock.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { AgentTls } from './agent-client/http-request.ts';
import { Agents } from './agents.ts';
import { Certificates } from './certificates/certificates.ts';
import type { OperatorConfig } from './config.ts';
import type { CsiControllerOptions } from './csi/start-csi-controller.ts';
import { startHealthServer } from './health-server.ts';
import type { KubeApi } from './kube/kube-api.ts';
import { RealKubeApi } from './kube/real-kube-api.ts';
import { PrometheusMetrics } from './prometheus-metrics.ts';
import { Replica } from './replica.ts';
import { parseDurationMs } from './resources/duration.ts';

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
  const identity = config.leaderElection?.identity ?? `${hostname()}_${randomBytes(5).toString('hex')}`;
  const api = new RealKubeApi(loadKubeConfig(config.kube), clock, {
    observe: (verb, status, seconds) => metrics.requested(verb, status, seconds),
    userAgent: `understudy-operator/${version} (${identity})`,
  });
  const tls = config.tls && (await readTls(config.tls));
  const started = new AsyncDisposableStack();
  try {
    const agents = new Agents({ config, api, tls, clock, log });
    started.defer(() => agents.stop());
    const certificates = certificatesOf(config, { api, identity, clock, log, metrics, agents });
    started.defer(() => certificates?.stop());
    const replica = new Replica({
      config,
      identity,
      api,
      agents,
      clock,
      log,
      metrics,
      duties: certificates === undefined ? [] : [(writer) => certificates.manage(writer)],
      trouble: () => certificates?.trouble,
    });
    metrics.useCensus(() => replica.census());
    certificates?.start();
    replica.start();
    started.defer(() => replica.stop());
    const { health } = config;
    const server = health && (await startHealthServer(parseAddress(health.listen), replica, metrics));
    started.defer(() => server?.stop());
    const isReady = () => replica.ready().trouble === undefined;
    const csi =
      config.csi && (await serveSideCars(config.csi, { api, version, isReady, clock, log }, config.namespace));
    started.defer(() => csi?.close());
    log.info({ identity, health: server?.address }, 'operator started');
    return { health: server?.address, stop: () => started.disposeAsync() };
  } catch (error) {
    await started.disposeAsync();
    throw error;
  }
}

/**
 * gRPC is loaded only where there is a CSI controller service. It answers in every replica: the side-cars that call it elect
 * a leader of their own.
 */
async function serveSideCars(
  csi: NonNullable<OperatorConfig['csi']>,
  parts: Pick<CsiControllerOptions, 'api' | 'version' | 'isReady' | 'clock' | 'log'>,
  namespace: string | undefined,
): Promise<{ close(): Promise<void> }> {
  const { startCsiController } = await import('./csi/start-csi-controller.ts');
  return startCsiController({ ...parts, socket: csi.socket, defaultNamespace: csi.namespace, namespace });
}

function certificatesOf(
  { certificates, enrollment, ownNamespace }: OperatorConfig,
  parts: Pick<RunOperatorOptions, 'clock' | 'log'> & {
    readonly api: KubeApi;
    readonly identity: string;
    readonly metrics: PrometheusMetrics;
    readonly agents: Agents;
  },
): Certificates | undefined {
  if (certificates === undefined || ownNamespace === undefined) return undefined;
  const { metrics, agents, ...context } = parts;
  return new Certificates({
    ...context,
    namespace: ownNamespace,
    secret: certificates.secret,
    configMap: certificates.configMap,
    policy: {
      authorityLifeMs: parseDurationMs(certificates.authorityLife),
      leafLifeMs: parseDurationMs(certificates.life),
      publishMs: parseDurationMs(certificates.publish),
    },
    enrollment: enrollment && {
      listen: parseAddress(enrollment.listen),
      rules: {
        namespace: ownNamespace,
        serviceAccount: enrollment.serviceAccount,
        audience: enrollment.audience,
      },
      names: enrollment.names,
    },
    random: randomBytes,
    onTls: (tls) => agents.renew(tls),
    onAuthority: (expiresAtMs) => metrics.authority(expiresAtMs),
    onEnrolled: (result) => metrics.enrolled(result),
  });
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
