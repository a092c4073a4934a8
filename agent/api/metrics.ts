import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { VolumeView } from './contract/volumes.ts';

/**
 * The metrics of an agent in the Prometheus format. Labels stay bounded: the volumes that are on this node now, their
 * mirrors, fixed sets of states, and route patterns. Snapshots, which come and go, are counted and never named.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requestSeconds: Histogram<'method' | 'route' | 'status'>;
  readonly #volumeGauges: readonly VolumeGauge[];

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
    this.#requestSeconds = new Histogram({
      name: 'understudy_api_request_duration_seconds',
      help: 'Time from the arrival of an API request to its answer.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers: [this.#registry],
    });
    this.#volumeGauges = volumeGauges.map((definition) => ({
      ...definition,
      gauge: new Gauge({ ...definition, labelNames: [...definition.labelNames], registers: [this.#registry] }),
    }));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  observeRequest(method: string, route: string, status: number, seconds: number): void {
    this.#requestSeconds.observe({ method, route, status }, seconds);
  }

  /** The answer to a scrape, with what the volumes are now; those of earlier scrapes leave no trace. */
  async render(volumes: readonly VolumeView[]): Promise<string> {
    for (const { gauge, samples } of this.#volumeGauges) {
      gauge.reset();
      for (const volume of volumes) {
        for (const { labels, value } of samples(volume)) gauge.inc(labels, value);
      }
    }
    return this.#registry.metrics();
  }
}

interface GaugeDefinition {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  /** What one volume adds to the gauge. */
  samples(volume: VolumeView): Sample[];
}

interface VolumeGauge extends GaugeDefinition {
  readonly gauge: Gauge;
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const volumeGauges: readonly GaugeDefinition[] = [
  {
    name: 'understudy_volumes',
    help: 'Copies of volumes on this node.',
    labelNames: ['role', 'state'],
    samples: ({ role, state }) => [{ labels: { role, state }, value: 1 }],
  },
  {
    name: 'understudy_volume_size_bytes',
    help: 'Size of a volume.',
    labelNames: ['volume'],
    samples: ({ volume, size }) => [{ labels: { volume }, value: size }],
  },
  {
    name: 'understudy_mirror_state',
    help: '1 for the state a mirror is in.',
    labelNames: ['volume', 'mirror', 'state'],
    samples: ({ volume, mirrors }) =>
      mirrors.map(({ name, state }) => ({ labels: { volume, mirror: name, state }, value: 1 })),
  },
  {
    name: 'understudy_mirror_dirty_bytes',
    help: 'Bytes that a standby is known to miss.',
    labelNames: ['volume', 'mirror'],
    samples: ({ volume, mirrors }) =>
      mirrors.map(({ name, dirtyBytes }) => ({ labels: { volume, mirror: name }, value: dirtyBytes })),
  },
  {
    name: 'understudy_mirror_lag_bytes',
    help: 'Bytes sent or queued that a standby does not hold yet.',
    labelNames: ['volume', 'mirror'],
    samples: ({ volume, mirrors }) =>
      mirrors.map(({ name, lagBytes }) => ({ labels: { volume, mirror: name }, value: lagBytes })),
  },
  {
    name: 'understudy_snapshots',
    help: 'Snapshots that a copy holds.',
    labelNames: ['volume', 'state'],
    samples: ({ volume, snapshots }) => snapshots.map(({ state }) => ({ labels: { volume, state }, value: 1 })),
  },
  {
    name: 'understudy_snapshot_exclusive_bytes',
    help: 'Bytes that deleting single snapshots would free, added up.',
    labelNames: ['volume'],
    samples: ({ volume, snapshots }) =>
      snapshots.map(({ exclusiveBytes }) => ({ labels: { volume }, value: exclusiveBytes })),
  },
  {
    name: 'understudy_snapshot_readers',
    help: 'Connections that read snapshots now.',
    labelNames: ['volume'],
    samples: ({ volume, snapshots }) => snapshots.map(({ readers }) => ({ labels: { volume }, value: readers })),
  },
  {
    name: 'understudy_buffer_used_bytes',
    help: 'Bytes in the copy-on-write buffer of a copy.',
    labelNames: ['volume'],
    samples: ({ volume, buffer }) => (buffer ? [{ labels: { volume }, value: buffer.usedBytes }] : []),
  },
  {
    name: 'understudy_buffer_capacity_bytes',
    help: 'Capacity of the copy-on-write buffer of a copy.',
    labelNames: ['volume'],
    samples: ({ volume, buffer }) => (buffer ? [{ labels: { volume }, value: buffer.capacityBytes }] : []),
  },
];
