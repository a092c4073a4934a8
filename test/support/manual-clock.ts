import type { Clock, Timer } from '../../common/clock.ts';

/** A clock that stands still until it is told to go on. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #timers = new Map<symbol, { dueMs: number; callback: () => void }>();

  wallTimeMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const id = Symbol('timer');
    this.#timers.set(id, { dueMs: this.#nowMs + delayMs, callback });
    return { cancel: () => void this.#timers.delete(id) };
  }

  soon(callback: () => void): void {
    this.after(0, callback);
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** Lets time pass, and fires what falls due on the way, in order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.dueMs <= untilMs);
      const [next] = due.sort(([, a], [, b]) => a.dueMs - b.dueMs);
      if (!next) break;
      const [id, timer] = next;
      this.#timers.delete(id);
      this.#nowMs = timer.dueMs;
      timer.callback();
    }
    this.#nowMs = untilMs;
  }
}
