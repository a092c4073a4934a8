import type { Trace } from './trace.ts';

/** What the checkers found; the first one ends a run. */
export class Violations {
  readonly list: string[] = [];
  readonly #trace: Trace;

  constructor(trace: Trace) {
    this.#trace = trace;
  }

  /** @param invariant number of the invariant in the design, or another name for what must hold */
  report(invariant: string, what: string): void {
    this.list.push(`invariant ${invariant}: ${what}`);
    this.#trace.note('VIOLATION', `${invariant}: ${what}`);
  }
}
