import type { Clock } from '../common/clock.ts';
import type { Log } from '../common/log.ts';
import type { AgentDirectory } from './agent-client/agent-client.ts';
import type { OperatorConfig } from './config.ts';
import { type Census, emptyCensus } from './controllers/census.ts';
import type { Health, Probes } from './health-server.ts';
import type { KubeApi } from './kube/kube-api.ts';
import { electionTiming } from './leader/election.ts';
import { LeaderElector } from './leader/leader-elector.ts';
import { agentsWithin, apiWithin, endlessTerm, type Term } from './leader/term.ts';
import type { PrometheusMetrics } from './prometheus-metrics.ts';
import { type Operator, startOperator } from './start-operator.ts';

export interface ReplicaOptions {
  readonly config: OperatorConfig;
  /** Unlike that of any other process. */
  readonly identity: string;
  readonly api: KubeApi;
  readonly agents: AgentDirectory;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: PrometheusMetrics;
  /** Further work of the leader, with an API that changes nothing outside of its term. */
  readonly duties: readonly ((api: KubeApi) => { stop(): Promise<void> })[];
  /** Why this replica is not ready, whatever its role. */
  readonly trouble: () => string | undefined;
}

/** One of the replicas of the operator: it acts while it leads, or always if there is no election. */
export class Replica implements Probes {
  readonly #options: ReplicaOptions;
  readonly #elector: LeaderElector | undefined;
  #operator: Operator | undefined;
  #alone: { stop(): Promise<void> } | undefined;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { config, identity, api, clock, log } = options;
    const { leaderElection, ownNamespace } = config;
    if (leaderElection === undefined || ownNamespace === undefined) return;
    this.#elector = new LeaderElector({
      api,
      lease: { namespace: ownNamespace, name: leaderElection.lease },
      identity,
      timing: electionTiming(leaderElection.leaseSeconds * 1000),
      clock,
      random: Math.random,
      log: log.child({ component: 'election' }),
      lead: (term) => this.#lead(term),
    });
  }

  start(): void {
    if (this.#elector === undefined) this.#alone = this.#lead(endlessTerm);
    else this.#elector.start();
  }

  /** Ends the work under way, then lets another replica lead. */
  async stop(): Promise<void> {
    await this.#elector?.stop();
    await this.#alone?.stop();
  }

  readonly alive = (): Health => {
    const stuck = this.#elector?.isAlive === false;
    return { role: this.#role, trouble: stuck ? 'the election has come to a standstill' : undefined };
  };

  readonly ready = (): Health => ({ role: this.#role, trouble: this.#trouble() });

  census(): Census {
    return this.#operator?.census() ?? emptyCensus;
  }

  get #role(): Health['role'] {
    return this.#elector === undefined || this.#elector.leads ? 'leader' : 'standby';
  }

  #trouble(): string | undefined {
    const other = this.#options.trouble();
    if (other !== undefined) return other;
    if (this.#role === 'standby') {
      return this.#elector?.isInContact ? undefined : 'the Kubernetes API does not answer';
    }
    return this.#operator?.isReady() ? undefined : 'the Kubernetes API has not been read yet';
  }

  #lead(term: Term): { stop(): Promise<void> } {
    const { config, agents, clock, log, metrics, duties } = this.#options;
    const api = apiWithin(term, this.#options.api);
    const { namespace } = config;
    const operator = startOperator({ api, agents: agentsWithin(term, agents), clock, log, metrics, namespace });
    const started = duties.map((duty) => duty(api));
    this.#operator = operator;
    metrics.leads(true);
    return {
      stop: async () => {
        await Promise.all([operator.stop(), ...started.map((duty) => duty.stop())]);
        if (this.#operator === operator) this.#operator = undefined;
        metrics.leads(false);
      },
    };
  }
}
