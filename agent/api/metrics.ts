import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { durationBucketsSeconds, operations } from '../volume/operation-statistics.ts';
import { CountedHistogram } from './counted-histogram.ts';
import { type ScrapedVolume, type VolumeMetric, volumeMetrics } from './volume-metrics.ts';

/** The metrics of an agent in the Prometheus format, described for users in docs/metrics.md. */
export class AgentMetrics {
  readonly registry = new Registry();
  readonly #requestSeconds: Histogram<'method' | 'route' | 'status'>;
  readonly #operationSeconds: CountedHistogram<'volume' | 'operation'>;
  readonly #certificateExpiry: Gauge;
  readonly #renewals: Counter<'result'>;
  readonly #ofVolumes: readonly { readonly metric: VolumeMetric; readonly collector: Gauge | Counter }[];

  constructor(version: string) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: 'understudy_build_info',
      help: 'Always 1; the label says which version runs.',
      labelNames: ['version'],
      registers,
    }).set({ version }, 1);
    this.#requestSeconds = new Histogram({
      name: 'understudy_api_request_duration_seconds',
      help: 'Time from the arrival of an API request to its answer.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers,
    });
    this.#operationSeconds = new CountedHistogram({
      name: 'understudy_operation_duration_seconds',
      help: 'Time that an operation of a client of the live volume takes, mirrors included.',
      labelNames: ['volume', 'operation'],
      buckets: [...durationBucketsSeconds],
      registers,
    });
    this.#certificateExpiry = new Gauge({
      name: 'understudy_certificate_expiry_timestamp_seconds',
      help: "When this node's certificate expires; 0 without certificates.",
      registers,
    });
    this.#renewals = new Counter({
      name: 'understudy_certificate_renewals_total',
      help: 'Attempts to have a certificate issued by the operator.',
      labelNames: ['result'],
      registers,
    });
    this.#ofVolumes = volumeMetrics.map((metric) => {
      const { type, name, help } = metric;
      const configuration = { name, help, labelNames: [...metric.labelNames], registers };
      return { metric, collector: type === 'counter' ? new Counter(configuration) : new Gauge(configuration) };
    });
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  observeRequest(method: string, route: string, status: number, seconds: number): void {
    this.#requestSeconds.observe({ method, route, status }, seconds);
  }

  /** @param expiresAtMs milliseconds since 1970 */
  certificate(expiresAtMs: number): void {
    this.#certificateExpiry.set(expiresAtMs / 1000);
  }

  renewed(result: 'issued' | 'failed'): void {
    this.#renewals.inc({ result });
  }

  /** The answer to a scrape, with what the volumes are now; those of earlier scrapes leave no trace. */
  async render(volumes: readonly ScrapedVolume[]): Promise<string> {
    for (const { metric, collector } of this.#ofVolumes) {
      collector.reset();
      for (const volume of volumes) {
        for (const { labels, value } of metric.samples(volume)) collector.inc(labels, value);
      }
    }
    this.#operationSeconds.replaceAll(volumes.flatMap(durations));
    return await this.registry.metrics();
  }
}

/** Only of operations that there were, so that a standby has none. */
function durations({ view: { volume }, statistics }: ScrapedVolume) {
  if (statistics === undefined) return [];
  return operations
    .map((operation) => ({ operation, counts: statistics.operations[operation] }))
    .filter(({ counts }) => counts.buckets.some((count) => count > 0))
    .map(({ operation, counts }) => ({
      labels: { volume, operation },
      buckets: counts.buckets,
      sum: counts.seconds,
    }));
}
