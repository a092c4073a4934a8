import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type Census, emptyCensus } from './controllers/census.ts';
import type { OperatorMetrics } from './controllers/metrics.ts';

/** The operator's metrics in the Prometheus format, described for users in docs/metrics.md. */
export class PrometheusMetrics implements OperatorMetrics {
  readonly registry = new Registry();
  readonly #reconcileSeconds: Histogram<'controller'>;
  readonly #reconciliations: Counter<'controller' | 'result'>;
  readonly #queue: Gauge<'controller'>;
  readonly #restarts: Counter<'kind'>;
  readonly #actions: Counter<'action' | 'result'>;
  readonly #requests: Histogram<'verb' | 'status'>;
  readonly #leader: Gauge;
  readonly #elections: Counter;
  readonly #enrollments: Counter<'result'>;
  readonly #authorityExpiry: Gauge;
  readonly #objects: Gauge<'kind' | 'ready'>;
  readonly #volumes: Gauge<'namespace' | 'name' | 'volume' | 'node'>;
  #census: () => Census = () => emptyCensus;

  constructor(version = '') {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: 'understudy_build_info',
      help: 'Always 1; the label says which version runs.',
      labelNames: ['version'],
      registers,
    }).set({ version }, 1);
    this.#reconciliations = new Counter({
      name: 'understudy_operator_reconciliations_total',
      help: 'Reconciliations, by how they ended.',
      labelNames: ['controller', 'result'],
      registers,
    });
    this.#reconcileSeconds = new Histogram({
      name: 'understudy_operator_reconcile_duration_seconds',
      help: 'Time that a reconciliation takes, waiting for agents and the Kubernetes API included.',
      labelNames: ['controller'],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    });
    this.#queue = new Gauge({
      name: 'understudy_operator_queued_keys',
      help: 'Objects that wait to be reconciled.',
      labelNames: ['controller'],
      registers,
    });
    this.#restarts = new Counter({
      name: 'understudy_operator_watch_restarts_total',
      help: 'Watches of the Kubernetes API that broke and were started again.',
      labelNames: ['kind'],
      registers,
    });
    this.#actions = new Counter({
      name: 'understudy_operator_agent_actions_total',
      help: 'Changes that were asked of agents.',
      labelNames: ['action', 'result'],
      registers,
    });
    this.#requests = new Histogram({
      name: 'understudy_operator_kube_request_duration_seconds',
      help: 'Time from a request to the Kubernetes API to the head of its answer; status 0 is no answer.',
      labelNames: ['verb', 'status'],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    });
    this.#leader = new Gauge({
      name: 'understudy_operator_leader',
      help: '1 while this replica leads.',
      registers,
    });
    this.#elections = new Counter({
      name: 'understudy_operator_elections_total',
      help: 'Times that this replica became the leader.',
      registers,
    });
    this.#enrollments = new Counter({
      name: 'understudy_operator_enrollments_total',
      help: 'Requests of agents for a certificate, by how they ended.',
      labelNames: ['result'],
      registers,
    });
    this.#authorityExpiry = new Gauge({
      name: 'understudy_operator_authority_expiry_timestamp_seconds',
      help: 'When the authority that signs certificates expires; 0 without one.',
      registers,
    });
    this.#objects = new Gauge({
      name: 'understudy_operator_objects',
      help: 'Objects of a kind by the status of their condition Ready; the leader has them.',
      labelNames: ['kind', 'ready'],
      registers,
    });
    this.#volumes = new Gauge({
      name: 'understudy_operator_volume_info',
      help: 'Always 1; which PrimaryVolume has which name at the agents, and where its primary is.',
      labelNames: ['namespace', 'name', 'volume', 'node'],
      registers,
    });
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  async render(): Promise<string> {
    const { objects, volumes } = this.#census();
    this.#objects.reset();
    for (const { kind, ready, count } of objects) this.#objects.set({ kind, ready }, count);
    this.#volumes.reset();
    for (const labels of volumes) this.#volumes.set({ ...labels }, 1);
    return await this.registry.metrics();
  }

  /** Where the objects of the cluster are counted at each scrape. */
  useCensus(census: () => Census): void {
    this.#census = census;
  }

  reconciled(controller: string, result: 'done' | 'retry' | 'error', seconds: number): void {
    this.#reconciliations.inc({ controller, result });
    this.#reconcileSeconds.observe({ controller }, seconds);
  }

  queued(controller: string, keys: number): void {
    this.#queue.set({ controller }, keys);
  }

  watchRestarted(kind: string): void {
    this.#restarts.inc({ kind });
  }

  acted(action: string, result: 'done' | 'failed'): void {
    this.#actions.inc({ action, result });
  }

  /** @param status 0 if there was no answer */
  requested(verb: string, status: number, seconds: number): void {
    this.#requests.observe({ verb, status: String(status) }, seconds);
  }

  leads(isLeader: boolean): void {
    this.#leader.set(isLeader ? 1 : 0);
    if (isLeader) this.#elections.inc();
  }

  enrolled(result: 'issued' | 'refused' | 'failed'): void {
    this.#enrollments.inc({ result });
  }

  /** @param expiresAtMs milliseconds since 1970 */
  authority(expiresAtMs: number): void {
    this.#authorityExpiry.set(expiresAtMs / 1000);
  }
}
