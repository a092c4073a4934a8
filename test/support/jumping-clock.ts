import { type Clock, systemClock, type Timer } from '../../common/clock.ts';

/** A clock whose time of day starts at a given moment, goes on as it does everywhere, and jumps when it is told to. */
export class JumpingClock implements Clock {
  #aheadMs: number;

  constructor(startMs: number) {
    this.#aheadMs = startMs - systemClock.wallTimeMs();
  }

  wallTimeMs(): number {
    return systemClock.wallTimeMs() + this.#aheadMs;
  }

  monotonicMs(): number {
    return systemClock.monotonicMs();
  }

  after(delayMs: number, callback: () => void): Timer {
    return systemClock.after(delayMs, callback);
  }

  soon(callback: () => void): void {
    systemClock.soon(callback);
  }

  jump(ms: number): void {
    this.#aheadMs += ms;
  }

  /** To a moment that is still to come. */
  jumpTo(wallTimeMs: number): void {
    const ms = wallTimeMs - this.wallTimeMs();
    if (ms < 0) throw new Error(`it is ${-ms} ms later than ${new Date(wallTimeMs).toISOString()} already`);
    this.jump(ms);
  }
}
