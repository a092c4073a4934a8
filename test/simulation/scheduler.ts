import type { Timer } from '../../common/clock.ts';

export interface ScheduledEvent extends Timer {
  /** It ran, or was cancelled. */
  isOver(): boolean;
}

interface Event {
  readonly dueMs: number;
  readonly number: number;
  readonly run: () => void;
  over: boolean;
}

/**
 * Simulated time. Events run one at a time, in the order of their due times and, among equals, of their scheduling;
 * everything that an event sets off without scheduling (promises) is over before the next one runs. So the course of a
 * simulation depends on nothing but its seed.
 */
export class Scheduler {
  #nowMs = 0;
  #number = 0;
  /** A binary heap; the next event stands first. */
  readonly #heap: Event[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): ScheduledEvent {
    const event = { dueMs: this.#nowMs + Math.max(0, delayMs), number: this.#number, run, over: false };
    this.#number += 1;
    this.#push(event);
    return {
      cancel: () => {
        event.over = true;
      },
      isOver: () => event.over,
    };
  }

  delay(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** Runs the next event and what follows from it at once; false if there is none. */
  async step(): Promise<boolean> {
    let event = this.#pop();
    while (event?.over) event = this.#pop();
    if (!event) return false;
    this.#nowMs = event.dueMs;
    event.over = true;
    event.run();
    await new Promise((resolve) => setImmediate(resolve));
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      const above = heap[parent] as Event;
      if (isBefore(above, event)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right && isBefore(right, heap[child] as Event)) child += 1;
      const below = heap[child] as Event;
      if (isBefore(last, below)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.number < b.number);
}
