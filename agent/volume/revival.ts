import type { Clock } from '../../common/clock.ts';

/** Before the first attempt; each death soon after the last one doubles it. */
const firstMs = 1_000;
const longestMs = 60_000;
/** A thread that has run for so long has recovered from whatever ended the one before it. */
const recoveredMs = 5 * 60_000;

/** How long to wait before the thread of a volume that has died is started again: at first hardly, then longer and longer. */
export class Revival {
  readonly #clock: Clock;
  #deaths = 0;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a death. @returns milliseconds to wait */
  died(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#deaths = nowMs - this.#lastMs > recoveredMs ? 1 : this.#deaths + 1;
    this.#lastMs = nowMs;
    return Math.min(longestMs, firstMs * 2 ** (this.#deaths - 1));
  }
}
