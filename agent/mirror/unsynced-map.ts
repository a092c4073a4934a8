import type { Range } from '../core/range.ts';
import { BlockMap } from './block-map.ts';

/**
 * What a standby has been sent and may not have on stable storage: all of it may be missing when the standby comes back.
 *
 * Invariant: a block leaves only when a sync that the standby began after the block's last write has been confirmed.
 */
export class UnsyncedMap {
  readonly #blockSize: number;
  /** Sent after the flush under way. */
  #current: BlockMap;
  /** Sent before the flush under way. */
  #flushing: BlockMap;
  #flushSequence: number | undefined;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
    this.#current = new BlockMap(blockSize);
    this.#flushing = new BlockMap(blockSize);
  }

  sent(range: Range): void {
    this.#current.add(range);
  }

  /** A flush with this sequence has been sent. Only one at a time is followed. */
  flushSent(sequence: number): void {
    if (this.#flushSequence !== undefined) return;
    this.#flushSequence = sequence;
    this.#flushing = this.#current;
    this.#current = new BlockMap(this.#blockSize);
  }

  /** The standby has synced everything up to `sequence`. */
  synced(sequence: number): void {
    if (this.#flushSequence === undefined || sequence < this.#flushSequence) return;
    this.#flushSequence = undefined;
    this.#flushing = new BlockMap(this.#blockSize);
  }

  /** The link is lost: moves everything into the record of what the standby misses. */
  moveTo(missed: BlockMap): void {
    missed.addAll(this.#flushing);
    missed.addAll(this.#current);
    this.#flushSequence = undefined;
    this.#flushing = new BlockMap(this.#blockSize);
    this.#current = new BlockMap(this.#blockSize);
  }
}
