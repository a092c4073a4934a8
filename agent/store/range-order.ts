import type { Completion } from '../core/block-device.ts';

interface Pending {
  readonly offset: number;
  readonly end: number;
  readonly reads: boolean;
  readonly settled: Promise<void>;
}

/**
 * Keeps operations on overlapping ranges in the order of their calls while some of them are still under way. Nearly
 * every operation is done at once and finds nothing pending; only those behind one that is not are held back.
 */
export class RangeOrder {
  #pending: Pending[] = [];

  /** Runs an operation now, or after every earlier one under way that it conflicts with; two reads never do. */
  run(offset: number, length: number, reads: boolean, operation: () => Completion): Completion {
    if (this.#pending.length === 0) return this.#started(offset, length, reads, operation());
    const conflicts = this.#pending.filter(
      (other) => other.offset < offset + length && offset < other.end && !(reads && other.reads),
    );
    if (conflicts.length === 0) return this.#started(offset, length, reads, operation());
    const completion = Promise.all(conflicts.map((conflict) => conflict.settled)).then(operation);
    return this.#started(offset, length, reads, completion);
  }

  /** Resolves when everything that is under way now has ended, whatever became of it. */
  async drained(): Promise<void> {
    await Promise.all(this.#pending.map((operation) => operation.settled));
  }

  #started(offset: number, length: number, reads: boolean, completion: Completion): Completion {
    if (completion === undefined) return undefined;
    const settled = completion.then(
      () => this.#ended(pending),
      () => this.#ended(pending),
    );
    const pending: Pending = { offset, end: offset + length, reads, settled };
    this.#pending.push(pending);
    return completion;
  }

  #ended(ended: Pending): void {
    this.#pending = this.#pending.filter((operation) => operation !== ended);
  }
}
