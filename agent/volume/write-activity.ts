import { type Clock, delay } from '../../common/clock.ts';

const bucketMs = 10;

export interface Lull {
  readonly quietForMs: number;
  readonly thresholdBytesPerSecond: number;
  readonly timeoutMs: number;
}

export interface LullFound {
  readonly found: boolean;
  readonly waitedMs: number;
  /** What was written in the last `quietForMs`, as a rate. */
  readonly bytesPerSecond: number;
}

/** A cheap running picture of how much is written: bytes in buckets of 10 ms, as far back as the longest lull asks. */
export class WriteActivity {
  readonly #clock: Clock;
  #buckets: { bucket: number; bytes: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  written(bytes: number): void {
    const bucket = Math.floor(this.#clock.monotonicMs() / bucketMs);
    const last = this.#buckets.at(-1);
    if (last?.bucket === bucket) last.bytes += bytes;
    else this.#buckets.push({ bucket, bytes });
    if (this.#buckets.length > 8192) this.#buckets = this.#buckets.slice(4096);
  }

  /** Bytes written in the last `windowMs`. */
  bytesWithin(windowMs: number): number {
    const oldest = Math.floor((this.#clock.monotonicMs() - windowMs) / bucketMs);
    let bytes = 0;
    for (let index = this.#buckets.length - 1; index >= 0; index -= 1) {
      const entry = this.#buckets[index];
      if (!entry || entry.bucket < oldest) break;
      bytes += entry.bytes;
    }
    return bytes;
  }

  /** Waits for a stretch in which no more is written than the threshold allows. */
  async waitForLull({ quietForMs, thresholdBytesPerSecond, timeoutMs }: Lull): Promise<LullFound> {
    const start = this.#clock.monotonicMs();
    for (;;) {
      const waitedMs = this.#clock.monotonicMs() - start;
      const bytesPerSecond = (this.bytesWithin(quietForMs) * 1000) / quietForMs;
      const found = bytesPerSecond <= thresholdBytesPerSecond;
      // What was written before the request counts as well: a volume that has been quiet need not wait.
      if (found || waitedMs >= timeoutMs) return { found, waitedMs, bytesPerSecond };
      await delay(this.#clock, Math.min(bucketMs, timeoutMs - waitedMs));
    }
  }
}
