import { type Clock, delay } from '../../common/clock.ts';

/** What may be used at once after a pause: so much of a second's worth. */
const burstSeconds = 0.125;
/** The limit may be changed while somebody waits, so nobody waits longer than this without looking. */
const longestWaitMs = 500;

/**
 * A token bucket for work that gives way to the guest: resyncs and verifications of one mirror.
 *
 * A piece is let through as soon as the bucket is not in debt, and puts it in debt by its size. So a piece may be larger
 * than the bucket, and the rate is kept in the long run whatever the sizes are.
 */
export class RateLimit {
  readonly #clock: Clock;
  #bytesPerSecond: number | undefined;
  #tokens = 0;
  #filledMs: number;

  /** Without a rate, everything is let through at once. */
  constructor(clock: Clock, bytesPerSecond: number | undefined) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#filledMs = clock.monotonicMs();
  }

  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond;
  }

  /** Holds for whoever waits now, too. */
  change(bytesPerSecond: number | undefined): void {
    this.#fill();
    // A debt made at another rate is worth another time, so it is not carried over.
    if (bytesPerSecond !== this.#bytesPerSecond) this.#tokens = 0;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Undefined: go ahead. Otherwise wait for it; it rejects with the signal's reason when that aborts. */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.#bytesPerSecond === undefined) return undefined;
    this.#fill();
    if (this.#tokens < 0) return this.#wait(bytes, signal);
    this.#tokens -= bytes;
    return undefined;
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const rate = this.#bytesPerSecond;
      if (rate === undefined) return;
      this.#fill();
      if (this.#tokens >= 0) {
        this.#tokens -= bytes;
        return;
      }
      // One millisecond more than needed, so that rounding does not make it come back in vain.
      await delay(this.#clock, Math.min(longestWaitMs, (-this.#tokens / rate) * 1000 + 1), signal);
    }
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs();
    const rate = this.#bytesPerSecond ?? 0;
    this.#tokens = Math.min(rate * burstSeconds, this.#tokens + ((nowMs - this.#filledMs) / 1000) * rate);
    this.#filledMs = nowMs;
  }
}
