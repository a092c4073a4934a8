import { networkInterfaces } from 'node:os';
import { type Address, formatAddress, parseAddress } from '../common/address.ts';
import type { Clock } from '../common/clock.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { AgentContext } from './agent-context.ts';
import type { NodeView } from './api/contract/node.ts';
import type { ApiServer } from './api/fastify.ts';
import { renewCertificates } from './api/listener.ts';
import { AgentMetrics } from './api/metrics.ts';
import { createApi } from './api/server.ts';
import { inClusterAccess, kubeconfigAccess } from './arbiter/kube-access.ts';
import { KubernetesArbiter } from './arbiter/kubernetes-arbiter.ts';
import { openCertificates } from './certificates.ts';
import type { AgentConfig } from './config.ts';
import { recallKubeletUses, serveKubelet } from './kubelet.ts';
import { mirrorAddress } from './mirror-address.ts';
import { openMounts } from './mounts.ts';
import { PendingMounts } from './pending-mounts.ts';
import { StateLock } from './state-lock.ts';
import { startNbdGateway, startVolumes } from './volumes.ts';

/** Requests under way have this long to finish; then their connections are cut. */
const apiCloseTimeoutMs = 5_000;

export interface Agent {
  /** Where the API listens, with the port that the operating system chose if the configuration left it open. */
  readonly api: Address;
  /** Ends everything in order: what is started last ends first. */
  stop(): Promise<void>;
}

/**
 * Starts an agent: the lock on its state, its volumes, its API, and, when the volumes have been recovered, its mounts
 * and what the kubelet calls. Resolves when all of it is there; the API answers before, and says what is still being recovered.
 * @throws UnderstudyError Invalid for what is wrong with the configuration's files, InUse if another agent has the state
 */
export async function startAgent(config: AgentConfig, context: AgentContext): Promise<Agent> {
  const { clock, log } = context;
  const started = new AsyncDisposableStack();
  try {
    const { version } = context;
    const mirror = parseAddress(mirrorAddress(config.mirror, networkInterfaces()));
    const metrics = new AgentMetrics(version);
    const lock = await StateLock.acquire(config.stateDirectory);
    started.defer(() => lock.release());
    const certificates = await openCertificates(config, context, metrics);
    const tls = certificates.material;
    const arbiter = openArbiter(config, context);
    started.defer(() => arbiter?.close());
    const volumes = await startVolumes(config, tls, arbiter, context);
    started.defer(() => volumes.stop());
    const gateway = await startNbdGateway(config, tls, context);
    started.defer(() => gateway?.stop());
    const uses = config.csi && (await recallKubeletUses(config, volumes, context));
    const mounts = new PendingMounts();
    const apiLog = log.child({ component: 'api' });
    const statistics = () => volumes.statistics();
    const node = describeNode(config.node, mirror, volumes.mirrorPort);
    const app = await createApi({ node, volumes, mounts, version, tls, log: apiLog, metrics, statistics });
    started.defer(() => closeApi(app, clock));
    const api = await listen(app, parseAddress(config.api.listen));
    const renewal = certificates.watch((renewed) => {
      renewCertificates(app.server, renewed);
      void volumes.renewTls(renewed);
      gateway?.renewTls(renewed);
    });
    started.defer(() => renewal.cancel());
    log.info({ ...node, api, version }, 'the API answers; recovering volumes');
    await volumes.recovered;
    const recovered = await openMounts(config, volumes, context);
    started.defer(() => recovered.close());
    volumes.useQuiescer(recovered);
    volumes.useAttachments(recovered);
    if (config.csi && uses) {
      const csi = await serveKubelet(config.csi, config, { volumes, mounts: recovered, journal: uses }, context);
      started.defer(() => csi.close());
    }
    // Last, since this makes the agent ready: whoever waits for that finds everything it serves.
    mounts.recovered(recovered);
    log.info({ node: config.node }, 'agent started');
    return { api, stop: () => started.disposeAsync() };
  } catch (error) {
    await started.disposeAsync();
    throw error;
  }
}

function openArbiter({ arbiter, kubernetes, node }: AgentConfig, { clock, log }: AgentContext) {
  if (arbiter === 'none') return undefined;
  const kubeconfig = kubernetes?.kubeconfig;
  const access = kubeconfig === undefined ? inClusterAccess(process.env) : kubeconfigAccess(kubeconfig);
  return new KubernetesArbiter({ node, access, clock, log: log.child({ component: 'arbiter' }) });
}

/** The port is the one that the operating system chose, if the configuration left it open. */
function describeNode(node: string, { host, port }: Address, bound: number): NodeView {
  return { node, mirrorAddress: formatAddress({ host, port: port === 0 ? bound : port }) };
}

async function listen(app: ApiServer, address: Address): Promise<Address> {
  try {
    await app.listen(address);
  } catch (cause) {
    throw new UnderstudyError('Unavailable', `cannot listen on ${address.host}:${address.port} (api.listen)`, {
      cause,
    });
  }
  const bound = app.server.address();
  return typeof bound === 'object' && bound !== null ? { host: address.host, port: bound.port } : address;
}

async function closeApi(app: ApiServer, clock: Clock): Promise<void> {
  const cut = clock.after(apiCloseTimeoutMs, () => app.server.closeAllConnections());
  await app.close();
  cut.cancel();
}
