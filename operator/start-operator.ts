import { type Clock, systemClock } from '../common/clock.ts';
import type { Log } from '../common/log.ts';
import type { AgentDirectory } from './agent-client/agent-client.ts';
import { AgentActions } from './controllers/agent-actions.ts';
import { BindingController } from './controllers/binding-controller.ts';
import { type Census, takeCensus } from './controllers/census.ts';
import { ClusterCaches } from './controllers/cluster-caches.ts';
import type { ControllerContext } from './controllers/controller-context.ts';
import { EventRecorder } from './controllers/event-recorder.ts';
import { GroupController } from './controllers/group-controller.ts';
import { defaultIntervals, type Intervals } from './controllers/intervals.ts';
import { noMetrics, type OperatorMetrics } from './controllers/metrics.ts';
import { NodeLabelController } from './controllers/node-label-controller.ts';
import { NodePoolController } from './controllers/node-pool-controller.ts';
import { ProvisioningController } from './controllers/provisioning-controller.ts';
import { RestoreController } from './controllers/restore-controller.ts';
import { routeChanges } from './controllers/routes.ts';
import { ScheduleController } from './controllers/schedule-controller.ts';
import { SnapshotController } from './controllers/snapshot-controller.ts';
import { VolumeController } from './controllers/volume-controller.ts';
import { type Result, WorkQueue } from './controllers/work-queue.ts';
import type { KubeApi } from './kube/kube-api.ts';
import { isConflict } from './kube/kube-error.ts';

export interface StartOperatorOptions {
  readonly api: KubeApi;
  readonly agents: AgentDirectory;
  readonly log: Log;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Only the objects of this namespace (and the cluster-scoped ones). */
  readonly namespace?: string | undefined;
  readonly intervals?: Intervals;
  readonly metrics?: OperatorMetrics;
}

export interface Operator {
  /** Every kind has been listed; from then on it works. */
  isReady(): boolean;
  ready(): Promise<void>;
  /** What there is, for the metrics. */
  census(): Census;
  /** Resolves when nothing is under way any more. Nothing at the agents or in the API changes by it. */
  stop(): Promise<void>;
}

/** Keys that are worked on at the same time, of one kind. */
const concurrency = 4;
/** After a Conflict the object has changed; the watch tells soon how. */
const conflictRetryMs = 100;

/** Starts the controllers on a Kubernetes API, real or in memory, in this process. */
export function startOperator(options: StartOperatorOptions): Operator {
  const { api, agents, clock = systemClock, random = Math.random, metrics = noMetrics } = options;
  const log = options.log.child({ component: 'operator' });
  const scope = options.namespace === undefined ? {} : { namespace: options.namespace };
  const caches = new ClusterCaches({ api, scope, clock, random, log, metrics });
  const events = new EventRecorder(api, clock, random, log);
  const actions = new AgentActions(agents, log, metrics);
  const intervals = options.intervals ?? defaultIntervals;
  const context: ControllerContext = { api, agents, actions, caches, events, clock, log, intervals };
  const started = startQueues(context, random, metrics);
  return {
    isReady: () => caches.isSynced,
    ready: () => caches.synced(),
    census: () => takeCensus(caches),
    async stop() {
      await caches.stop();
      await started.stop();
      await events.flush();
    },
  };
}

/** The queues take work from the beginning, but begin with it only when everything is known. */
function startQueues(context: ControllerContext, random: () => number, metrics: OperatorMetrics) {
  const { caches, clock, log } = context;
  const stopping = Promise.withResolvers<'stopping'>();
  const queue = (name: string, controller: { reconcile(key: string): Promise<Result> }) =>
    new WorkQueue({
      name,
      clock,
      random,
      metrics,
      log: log.child({ controller: name }),
      concurrency,
      reconcile: async (key) => {
        if ((await Promise.race([caches.synced(), stopping.promise])) === 'stopping') return { type: 'done' };
        return await retryConflicts(() => controller.reconcile(key));
      },
    });
  const snapshotController = new SnapshotController(context);
  const queues = {
    pools: queue('node-pools', new NodePoolController(context)),
    volumes: queue('volumes', new VolumeController(context)),
    snapshots: queue('snapshots', snapshotController),
    groups: queue('groups', new GroupController(context)),
    schedules: queue('schedules', new ScheduleController(context)),
    restores: queue('restores', new RestoreController(context)),
    bindings: queue('bindings', new BindingController(context)),
    nodeLabels: queue('node-labels', new NodeLabelController(context)),
    provisioning: queue('provisioning', new ProvisioningController(context)),
  };
  routeChanges(caches, queues);
  return {
    async stop() {
      stopping.resolve('stopping');
      await Promise.all(Object.values(queues).map((each) => each.stop()));
      snapshotController.stop();
    },
  };
}

async function retryConflicts(reconcile: () => Promise<Result>): Promise<Result> {
  try {
    return await reconcile();
  } catch (error) {
    if (isConflict(error)) return { type: 'again', afterMs: conflictRetryMs };
    throw error;
  }
}
