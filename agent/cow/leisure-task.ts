import type { Clock, Timer } from '../../common/clock.ts';

/** Something that is to be done some time after it was asked for, once however often that was, and never twice at a time. */
export class LeisureTask {
  readonly #clock: Clock;
  readonly #afterMs: number;
  readonly #run: () => Promise<void>;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  /** @param run must not reject */
  constructor(clock: Clock, afterMs: number, run: () => Promise<void>) {
    this.#clock = clock;
    this.#afterMs = afterMs;
    this.#run = run;
  }

  schedule(): void {
    if (this.#running) this.#again = true;
    if (this.#stopped || this.#timer || this.#running) return;
    this.#timer = this.#clock.after(this.#afterMs, () => {
      this.#timer = undefined;
      this.#running = this.#run().finally(() => {
        this.#running = undefined;
        if (!this.#again) return;
        this.#again = false;
        this.schedule();
      });
    });
  }

  /** Nothing is done any more; resolves when what is under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }
}
