import type { Range } from '../core/range.ts';
import { BlockMap } from './block-map.ts';
import { digestChunkBytes } from './protocol.ts';

/** Blocks in which missed writes are recorded: small, so that little more is copied than was written. */
export const missedBlockBytes = 4096;
/** How far a scan looks ahead at once; stretches without data in it cost nothing. */
const scanStepBytes = 256 * 1024 * 1024;

/**
 * - copy: the standby certainly or probably lacks it.
 * - compare: it may differ; digests decide.
 * - scan: a stretch of a scan over the whole volume, of which nothing is known on the standby's side (`onBlank` false)
 *   or which certainly reads as zeroes there (`onBlank` true).
 */
export type ResyncWork =
  | { readonly kind: 'copy'; readonly range: Range }
  | { readonly kind: 'compare'; readonly range: Range; readonly verifying: boolean }
  | { readonly kind: 'scan'; readonly range: Range; readonly onBlank: boolean };

/**
 * What may differ between a primary and one standby, and in which order it is brought over.
 *
 * Invariant: a range leaves this record when it is handed out as work, and whoever takes it returns it (missed, suspect)
 * if the work could not be completed. What is in none of the sets, and not handed out, is equal on both sides.
 */
export class Differences {
  readonly #volumeBytes: number;
  /** Written here while the standby could not be told, or sent and perhaps lost. */
  readonly missed = new BlockMap(missedBlockBytes);
  /** May differ; compared before anything is copied. */
  readonly suspect = new BlockMap(digestChunkBytes);
  /** Copied in this resync; compared once more before the standby counts as in sync. */
  readonly #unverified = new BlockMap(digestChunkBytes);
  #scan: { cursor: number; onBlank: boolean } | undefined;
  #verifying = false;
  #copiedBytes = 0;

  constructor(volumeBytes: number) {
    this.#volumeBytes = volumeBytes;
  }

  /** Everything may differ: what was known is void. */
  startScan(onBlank: boolean): void {
    this.missed.clear();
    this.suspect.clear();
    this.#unverified.clear();
    this.#scan = { cursor: 0, onBlank };
  }

  get scanning(): boolean {
    return this.#scan !== undefined;
  }

  /** Bytes that may have to be copied; an upper bound while comparing. */
  get remainingBytes(): number {
    const unscanned = this.#scan ? this.#volumeBytes - this.#scan.cursor : 0;
    const suspect = this.#verifying ? 0 : this.suspect.bytes;
    return Math.min(this.#volumeBytes, unscanned + this.missed.bytes + suspect);
  }

  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  beginAttempt(): void {
    this.#copiedBytes = 0;
    this.#verifying = false;
  }

  copied(range: Range): void {
    this.#copiedBytes += range.length;
    this.#unverified.add(range);
  }

  /** The next piece of at most `maxBytes` (a scan's may be longer), or undefined if nothing is left. */
  take(maxBytes: number): ResyncWork | undefined {
    const missed = this.missed.next(0, maxBytes);
    if (missed) {
      this.missed.removeCovered(missed);
      return { kind: 'copy', range: this.#clip(missed) };
    }
    const suspect = this.suspect.next(0, maxBytes);
    if (suspect) {
      this.suspect.removeCovered(suspect);
      return { kind: 'compare', range: this.#clip(suspect), verifying: this.#verifying };
    }
    const scan = this.#scan;
    if (!scan) return undefined;
    const range = { offset: scan.cursor, length: Math.min(scanStepBytes, this.#volumeBytes - scan.cursor) };
    this.#scan =
      range.offset + range.length < this.#volumeBytes ? { ...scan, cursor: range.offset + range.length } : undefined;
    return { kind: 'scan', range, onBlank: scan.onBlank };
  }

  /** Gives back a scan's stretch that was not finished. What lies behind it is scanned again as well. */
  returnScan(cursor: number, onBlank: boolean): void {
    this.#scan = { cursor, onBlank };
  }

  /** Puts everything that was copied up for comparison; false if nothing was copied since the last time. */
  beginVerification(): boolean {
    if (this.#unverified.count === 0) return false;
    this.#verifying = true;
    this.suspect.addAll(this.#unverified);
    this.#unverified.clear();
    return true;
  }

  #clip({ offset, length }: Range): Range {
    return { offset, length: Math.min(length, this.#volumeBytes - offset) };
  }
}
