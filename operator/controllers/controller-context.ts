import type { Clock } from '../../common/clock.ts';
import type { Log } from '../../common/log.ts';
import type { AgentDirectory } from '../agent-client/agent-client.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { AgentActions } from './agent-actions.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { EventRecorder } from './event-recorder.ts';
import type { Intervals } from './intervals.ts';

/** What every controller works with. */
export interface ControllerContext {
  readonly api: KubeApi;
  readonly agents: AgentDirectory;
  readonly actions: AgentActions;
  readonly caches: ClusterCaches;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervals: Intervals;
}
