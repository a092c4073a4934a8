import { assert } from '../../common/assert.ts';

/**
 * Which slots of the buffer's data area are free.
 *
 * A slot that is released is not free yet: until the record that says so is on stable storage, a crash would bring back
 * the snapshot that read it. So releases are collected with each commit of the index, and become free when it has
 * succeeded. A slot that a reader has pinned waits for that reader, too (rule 18).
 *
 * Freed slots are used again before fresh ones, the last freed first: they have their space on the disk already.
 *
 * Pure: no input or output.
 */
export class SlotAllocator {
  #limit: number;
  /** Slots from here on were never used. */
  #fresh: number;
  readonly #free: number[] = [];
  #released: number[] = [];
  readonly #pins = new Map<number, number>();
  readonly #freeOncePinsEnd = new Set<number>();

  /** @param used the slots that hold something, in any order */
  constructor(limit: number, used: Iterable<number> = []) {
    this.#limit = limit;
    const taken = new Set(used);
    let fresh = 0;
    for (const slot of taken) fresh = Math.max(fresh, slot + 1);
    this.#fresh = fresh;
    for (let slot = Math.min(fresh, limit) - 1; slot >= 0; slot -= 1) if (!taken.has(slot)) this.#free.push(slot);
  }

  get limit(): number {
    return this.#limit;
  }

  /** Slots that can be had at once. */
  get available(): number {
    return this.#free.length + Math.max(0, this.#limit - this.#fresh);
  }

  /** Less than a fifth is left. */
  get nearlyFull(): boolean {
    return 5 * this.available < this.#limit;
  }

  /** Slots that the next commit of the index will free. */
  get releasing(): number {
    return this.#released.length;
  }

  /** A slot, or undefined if none is free. */
  allocate(): number | undefined {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    if (this.#fresh >= this.#limit) return undefined;
    this.#fresh += 1;
    return this.#fresh - 1;
  }

  /** Gives back a slot that no record ever mentioned. */
  giveBack(slot: number): void {
    this.#makeFree(slot);
  }

  /** The slot becomes free with the commit that makes its release durable. */
  release(slot: number): void {
    this.#released.push(slot);
  }

  /** Call when a commit takes the records so far; pass the result to `committed` when they are durable. */
  takeReleased(): number[] {
    const released = this.#released;
    this.#released = [];
    return released;
  }

  committed(released: readonly number[]): void {
    for (const slot of released) {
      if (this.#pins.has(slot)) this.#freeOncePinsEnd.add(slot);
      else this.#makeFree(slot);
    }
  }

  /** Keeps a slot from being used again while it is read. */
  pin(slot: number): void {
    this.#pins.set(slot, (this.#pins.get(slot) ?? 0) + 1);
  }

  unpin(slot: number): void {
    const pins = this.#pins.get(slot);
    assert(pins, `slot ${slot} is pinned`);
    if (pins > 1) {
      this.#pins.set(slot, pins - 1);
      return;
    }
    this.#pins.delete(slot);
    if (this.#freeOncePinsEnd.delete(slot)) this.#makeFree(slot);
  }

  /** More slots than before. */
  raiseLimit(limit: number): void {
    this.#limit = Math.max(this.#limit, limit);
  }

  /** The disk has no room for fresh slots: from now on only used ones are used again. */
  forbidFresh(): void {
    this.#limit = Math.min(this.#limit, this.#fresh);
  }

  #makeFree(slot: number): void {
    if (slot < this.#limit) this.#free.push(slot);
  }
}
