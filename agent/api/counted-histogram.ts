import { Histogram, type HistogramConfiguration } from 'prom-client';

/** One series of a histogram that somebody else has counted. */
export interface CountedSeries<Label extends string> {
  readonly labels: Readonly<Record<Label, string>>;
  /** Observations per bucket (not cumulative), in the order of the bounds, and one more for those above the last. */
  readonly buckets: readonly number[];
  readonly sum: number;
}

/** A histogram whose observations were counted elsewhere, in another thread, and are taken over as a whole. */
export class CountedHistogram<Label extends string> extends Histogram<Label> {
  readonly #configuration: HistogramConfiguration<Label> & { readonly buckets: number[] };
  #series: readonly CountedSeries<Label>[] = [];

  constructor(configuration: HistogramConfiguration<Label> & { readonly buckets: number[] }) {
    super(configuration);
    this.#configuration = configuration;
  }

  replaceAll(series: readonly CountedSeries<Label>[]): void {
    this.#series = series;
  }

  /** What the registry, and `get`, ask for. */
  async getForPromString() {
    const { name, help } = this.#configuration;
    const values = this.#series.flatMap((series) => this.#valuesOf(series));
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  }

  #valuesOf({ labels, buckets, sum }: CountedSeries<Label>) {
    const { name, buckets: bounds } = this.#configuration;
    let count = 0;
    const cumulative = [...bounds, '+Inf'].map((le, index) => {
      count += buckets[index] ?? 0;
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    return [
      ...cumulative,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}
