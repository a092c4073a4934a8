import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { overlaps, type Range } from '../core/range.ts';
import type { Differences, ResyncWork } from './differences.ts';
import { differingChunks, digestsOf } from './digest.ts';
import { digestChunkBytes } from './protocol.ts';
import type { RateLimit } from './rate-limit.ts';

/** Bytes read and sent at once. */
const pieceBytes = 1024 * 1024;
/** A copy that differs again and again after having been copied is a defect of a disk or of ours: give up. */
const maxVerificationFailures = 3;

/** What a resync needs of the link that it runs on. */
export interface ResyncLink {
  /** Sends content of the volume; the buffer is not changed afterwards. */
  sendResyncData(range: Range, content: Buffer): void;
  sendResyncZeroes(range: Range, keepAllocated: boolean): void;
  /** Asks for the standby's digests of the range as of this point in the stream. Rejects when the link is lost. */
  requestDigests(range: Range): Promise<Buffer>;
  /** Resolves when so little is in flight that more may be sent. Rejects when the link is lost. */
  room(): Promise<void>;
  /** Aborts when the link is lost. */
  readonly ended: AbortSignal;
}

/**
 * One attempt to make a standby equal to the primary, under live writes.
 *
 * Invariant (rule 11): content that is read here is sent at the same point of the stream at which it was read. A guest
 * write that is sent between a read's start and its end makes the read void, and it is done again.
 */
export class Resync {
  readonly #differences: Differences;
  readonly #base: BlockDevice;
  readonly #link: ResyncLink;
  /** True while a write into the range has been sent to the standby but not yet reached the local device. */
  readonly #localWritePending: (range: Range) => boolean;
  readonly #limit: RateLimit;
  readonly #log: Log;
  /** The reads under way, and whether a write has made them void. */
  readonly #reading = new Set<{ range: Range; void: boolean }>();
  /** Comparisons asked for and not answered. */
  #comparing = 0;
  #comparisonDone: (() => void) | undefined;
  #failure: unknown;
  #verificationFailures = 0;

  constructor(
    differences: Differences,
    base: BlockDevice,
    link: ResyncLink,
    localWritePending: (range: Range) => boolean,
    limit: RateLimit,
    log: Log,
  ) {
    this.#differences = differences;
    this.#base = base;
    this.#link = link;
    this.#localWritePending = localWritePending;
    this.#limit = limit;
    this.#log = log;
  }

  /** A guest write goes out now. */
  written(range: Range): void {
    for (const read of this.#reading) if (overlaps(read.range, range)) read.void = true;
  }

  /**
   * Resolves at a moment when nothing is left to copy; the caller acts on it at once, before anything else happens.
   * @throws when the link is lost or the local disk fails; the differences are complete again then.
   */
  async run(whenCopied: () => void): Promise<void> {
    this.#differences.beginAttempt();
    for (;;) {
      await this.#link.room();
      if (this.#failure) throw this.#failure;
      const work = this.#differences.take(pieceBytes);
      if (work) {
        await this.#do(work);
      } else if (this.#comparing > 0) {
        await new Promise<void>((resolve) => {
          this.#comparisonDone = resolve;
        });
      } else if (!this.#differences.beginVerification()) {
        whenCopied();
        return;
      }
    }
  }

  async #do(work: ResyncWork): Promise<void> {
    switch (work.kind) {
      case 'copy':
        try {
          return await this.#copy(work.range, false);
        } catch (error) {
          this.#differences.missed.add(work.range);
          throw error;
        }
      case 'compare':
        return this.#compare(work.range, work.verifying);
      case 'scan':
        return this.#scan(work.range, work.onBlank);
    }
  }

  async #scan(range: Range, onBlank: boolean): Promise<void> {
    let cursor = range.offset;
    try {
      for (const piece of this.#pieces(range)) {
        await this.#link.room();
        if (this.#failure) throw this.#failure;
        if (onBlank) await this.#copy(piece, true);
        else await this.#compareOrZero(piece);
        cursor = piece.offset + piece.length;
      }
    } catch (error) {
      this.#differences.returnScan(cursor, onBlank);
      throw error;
    }
  }

  /** Cuts a range along its extents: zero stretches stay whole, data is cut into pieces. */
  *#pieces(range: Range): Generator<Range> {
    let offset = range.offset;
    for (const extent of this.#base.extents(range.offset, range.length)) {
      const end = offset + extent.length;
      if (extent.zero) yield { offset, length: extent.length };
      else for (; offset < end; offset += pieceBytes) yield { offset, length: Math.min(pieceBytes, end - offset) };
      offset = end;
    }
  }

  /** The extents of the range now; unknown (one stretch of data) where a write is still on its way to the device. */
  #extents(range: Range): { length: number; zero: boolean; hole: boolean }[] {
    if (this.#localWritePending(range)) return [{ length: range.length, zero: false, hole: false }];
    return this.#base.extents(range.offset, range.length);
  }

  async #copy(range: Range, targetIsZero: boolean): Promise<void> {
    let offset = range.offset;
    for (const extent of this.#extents(range)) {
      for (const end = offset + extent.length; offset < end; ) {
        const length = extent.zero ? end - offset : Math.min(pieceBytes, end - offset);
        await this.#copyPiece({ offset, length }, extent, targetIsZero);
        offset += length;
      }
    }
  }

  async #copyPiece(piece: Range, extent: { zero: boolean; hole: boolean }, targetIsZero: boolean): Promise<void> {
    // The extents were taken before the pieces in front of this one were sent; writes may have come meanwhile.
    const stillZero = extent.zero && this.#extents(piece).every((now) => now.zero);
    if (stillZero) {
      if (!targetIsZero) this.#link.sendResyncZeroes(piece, !extent.hole);
      return;
    }
    for (let offset = piece.offset; offset < piece.offset + piece.length; offset += pieceBytes) {
      const range = { offset, length: Math.min(pieceBytes, piece.offset + piece.length - offset) };
      await this.#readAnd(range, (content) => {
        const zero = isZero(content);
        if (zero && targetIsZero) return;
        if (zero) this.#link.sendResyncZeroes(range, true);
        else this.#link.sendResyncData(range, content);
        this.#differences.copied(range);
      });
    }
  }

  async #compareOrZero(piece: Range): Promise<void> {
    const extents = this.#extents(piece);
    if (extents.every((extent) => extent.zero)) {
      this.#link.sendResyncZeroes(piece, !extents.every((extent) => extent.hole));
      return;
    }
    for (let offset = piece.offset; offset < piece.offset + piece.length; offset += pieceBytes) {
      await this.#compare({ offset, length: Math.min(pieceBytes, piece.offset + piece.length - offset) }, false);
    }
  }

  /** Asks for the standby's digests and goes on; the answer is dealt with when it comes. */
  async #compare(range: Range, verifying: boolean): Promise<void> {
    let answer: Promise<Buffer> | undefined;
    let ours: Buffer = Buffer.alloc(0);
    try {
      await this.#readAnd(range, (content) => {
        ours = digestsOf(content);
        answer = this.#link.requestDigests(range);
      });
    } catch (error) {
      this.#differences.suspect.add(range);
      throw error;
    }
    this.#comparing += 1;
    answer
      ?.then((theirs) => this.#compared(range, ours, theirs, verifying))
      .catch((error: unknown) => {
        this.#differences.suspect.add(range);
        this.#failure ??= error;
      })
      .finally(() => {
        this.#comparing -= 1;
        this.#comparisonDone?.();
      });
  }

  #compared(range: Range, ours: Buffer, theirs: Buffer, verifying: boolean): void {
    if (theirs.length !== ours.length) {
      throw new UnderstudyError('Protocol', `expected ${ours.length} bytes of digests, got ${theirs.length}`);
    }
    const differing = differingChunks(ours, theirs);
    for (const chunk of differing) {
      const offset = range.offset + chunk * digestChunkBytes;
      this.#differences.missed.add({
        offset,
        length: Math.min(digestChunkBytes, range.offset + range.length - offset),
      });
    }
    if (!verifying || differing.length === 0) return;
    this.#verificationFailures += 1;
    const offset = range.offset + (differing[0] ?? 0) * digestChunkBytes;
    this.#log.error({ offset, chunks: differing.length }, 'the copies differ after a resync; copying again');
    if (this.#verificationFailures < maxVerificationFailures) return;
    throw new UnderstudyError(
      'Corrupt',
      `the standby's content at ${offset} differs from what was sent to it, ${maxVerificationFailures} times over: check its disk and memory`,
    );
  }

  /** Reads the range and calls `use` at a moment when the content is current. */
  async #readAnd(range: Range, use: (content: Buffer) => void): Promise<void> {
    const wait = this.#limit.take(range.length, this.#link.ended);
    if (wait) await wait;
    for (;;) {
      const content = Buffer.allocUnsafeSlow(range.length);
      const read = { range, void: false };
      this.#reading.add(read);
      try {
        const completion = this.#base.read(range.offset, content);
        if (completion) await completion;
        if (!read.void) {
          use(content);
          return;
        }
      } finally {
        this.#reading.delete(read);
      }
    }
  }
}

const zeroes = Buffer.alloc(64 * 1024);

function isZero(content: Buffer): boolean {
  for (let at = 0; at < content.length; at += zeroes.length) {
    const end = Math.min(at + zeroes.length, content.length);
    if (content.compare(zeroes, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}
