import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { OperatorMetrics } from './controllers/metrics.ts';

/** The operator's metrics in the Prometheus format. All labels are from fixed sets. */
export class PrometheusMetrics implements OperatorMetrics {
  readonly #registry = new Registry();
  readonly #reconciliations: Counter<'controller' | 'result'>;
  readonly #queue: Gauge<'controller'>;
  readonly #restarts: Counter<'kind'>;
  readonly #actions: Counter<'action' | 'result'>;

  constructor() {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#reconciliations = new Counter({
      name: 'understudy_operator_reconciliations_total',
      help: 'Reconciliations, by how they ended.',
      labelNames: ['controller', 'result'],
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
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async render(): Promise<string> {
    return await this.#registry.metrics();
  }

  reconciled(controller: string, result: 'done' | 'retry' | 'error'): void {
    this.#reconciliations.inc({ controller, result });
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
}
