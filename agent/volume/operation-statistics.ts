export const operations = ['read', 'write', 'flush'] as const;
export type Operation = (typeof operations)[number];

/** Upper bounds of the buckets of durations, in seconds: from a write into the page cache to a standby that does not answer. */
export const durationBucketsSeconds = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5,
] as const;

const bucketsMs = durationBucketsSeconds.map((seconds) => seconds * 1000);

/** What became of the operations of one kind since the volume was started; it only grows. */
export interface OperationCounts {
  /** Completed operations by duration, one count per bucket (not cumulative), and one more for all that took longer. */
  readonly buckets: readonly number[];
  readonly seconds: number;
  readonly bytes: number;
  readonly errors: number;
}

/** What a volume's thread has counted since it was started. */
export interface VolumeStatistics {
  readonly operations: Readonly<Record<Operation, OperationCounts>>;
  /** Snapshots that lost their content. */
  readonly invalidatedSnapshots: number;
}

/** Counts the operations of a volume's clients. A call costs some tens of nanoseconds: it is made for every operation. */
export class OperationStatistics {
  readonly #counters: Readonly<Record<Operation, Counters>> = {
    read: new Counters(),
    write: new Counters(),
    flush: new Counters(),
  };

  /** `bytes` counts only if the operation succeeded. */
  finished(operation: Operation, durationMs: number, bytes: number, succeeded: boolean): void {
    this.#counters[operation].finished(durationMs, bytes, succeeded);
  }

  counts(): Record<Operation, OperationCounts> {
    const { read, write, flush } = this.#counters;
    return { read: read.counts(), write: write.counts(), flush: flush.counts() };
  }
}

class Counters {
  readonly #buckets = new Float64Array(bucketsMs.length + 1);
  #totalMs = 0;
  #bytes = 0;
  #errors = 0;

  finished(durationMs: number, bytes: number, succeeded: boolean): void {
    let bucket = 0;
    while (durationMs > (bucketsMs[bucket] ?? Number.POSITIVE_INFINITY)) bucket += 1;
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#totalMs += durationMs;
    if (succeeded) this.#bytes += bytes;
    else this.#errors += 1;
  }

  counts(): OperationCounts {
    return {
      buckets: [...this.#buckets],
      seconds: this.#totalMs / 1000,
      bytes: this.#bytes,
      errors: this.#errors,
    };
  }
}
