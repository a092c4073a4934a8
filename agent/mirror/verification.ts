import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VerificationView } from '../api/contract/verification.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { overlaps, type Range } from '../core/range.ts';
import { BlockMap } from './block-map.ts';
import { missedBlockBytes } from './differences.ts';
import { differingChunks, digestsOf } from './digest.ts';
import { digestChunkBytes } from './protocol.ts';
import type { RateLimit } from './rate-limit.ts';

/** Read and digested at once, without a pause for the guest. */
const pieceBytes = 256 * 1024;
/** Differing ranges that are listed; all of them are counted, and repaired if asked. */
const maxListed = 64;
/** Chunks that are looked at block by block; of further ones the whole chunk is reported. */
const maxRefinedChunks = 1024;

/** What a verification needs of the link that it runs on. */
export interface DigestLink {
  /** Asks for the standby's digests of the range as of this point in the stream. Rejects when the link is lost. */
  requestDigests(range: Range): Promise<Buffer>;
  /** Resolves when so little is in flight that more may be sent. Rejects when the link is lost. */
  room(): Promise<void>;
  /** Aborts when the link is lost. */
  readonly ended: AbortSignal;
}

export interface VerificationOptions {
  readonly base: BlockDevice;
  readonly link: DigestLink;
  readonly limit: RateLimit;
  readonly clock: Clock;
  readonly log: Log;
  readonly repair: boolean;
}

/**
 * Compares both copies of a mirror that is in sync, range by range, while the guest writes.
 *
 * Invariant: the digests that are compared are of one moment of the write stream. The standby's are taken where the
 * request for them lies in the stream; ours are of a read during which no write into the range has been sent, and which
 * is followed by the request without anything in between. A read that a write has overtaken is done again, in smaller
 * pieces each time.
 *
 * It changes nothing, on either side.
 */
export class Verification {
  readonly #options: VerificationOptions;
  /** In blocks of 4 KiB. */
  readonly #differing = new BlockMap(missedBlockBytes);
  readonly #startedAt: string;
  readonly #cancelled = new AbortController();
  readonly #signal: AbortSignal;
  #endedAt: string | undefined;
  #verifiedBytes = 0;
  #refinedChunks = 0;
  #reason: string | undefined;
  /** The reads under way, and whether a write has made them void. */
  readonly #reading = new Set<{ readonly range: Range; void: boolean }>();
  readonly #comparing = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(options: VerificationOptions) {
    this.#options = options;
    this.#startedAt = new Date(options.clock.wallTimeMs()).toISOString();
    this.#signal = AbortSignal.any([this.#cancelled.signal, options.link.ended]);
  }

  get running(): boolean {
    return this.#endedAt === undefined;
  }

  /** All that was found to differ, in order. */
  differing(): Generator<Range> {
    return this.#differing.ranges();
  }

  /** A guest write goes out now. */
  written(range: Range): void {
    for (const reading of this.#reading) if (overlaps(reading.range, range)) reading.void = true;
  }

  /** Ends it early; what it has found stays. */
  stop(reason: string): void {
    this.#cancelled.abort(new UnderstudyError('Closed', reason));
  }

  view(): VerificationView {
    const { repair, limit, base } = this.#options;
    const differing: Range[] = [];
    for (const range of this.#differing.ranges()) {
      if (differing.length === maxListed) break;
      differing.push(range);
    }
    const listedBytes = differing.reduce((sum, { length }) => sum + length, 0);
    return {
      state: this.running ? 'Running' : this.#reason === undefined ? 'Done' : 'Stopped',
      startedAt: this.#startedAt,
      ...(this.#endedAt === undefined ? {} : { endedAt: this.#endedAt }),
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      totalBytes: base.size,
      verifiedBytes: this.#verifiedBytes,
      differingBytes: this.#differing.bytes,
      differing,
      truncated: listedBytes < this.#differing.bytes,
      repair,
      ...(limit.bytesPerSecond === undefined ? {} : { bytesPerSecond: limit.bytesPerSecond }),
    };
  }

  /** Resolves when everything has been compared, or with the first thing that kept it from going on; see `view`. */
  async run(): Promise<void> {
    try {
      await this.#compareAll();
      while (this.#comparing.size > 0) await Promise.all(this.#comparing);
      this.#rethrow();
    } catch (error) {
      this.#reason = errorMessage(this.#cancelled.signal.aborted ? this.#cancelled.signal.reason : error);
    }
    this.#endedAt = new Date(this.#options.clock.wallTimeMs()).toISOString();
    const { log } = this.#options;
    const labels = { verifiedBytes: this.#verifiedBytes, differingBytes: this.#differing.bytes, reason: this.#reason };
    if (this.#differing.count > 0) log.error(labels, 'the copies differ, though the mirror is in sync');
    else log.info(labels, 'verification has ended');
  }

  async #compareAll(): Promise<void> {
    const { base, link, limit } = this.#options;
    const content = Buffer.allocUnsafeSlow(Math.min(pieceBytes, base.size));
    for (let offset = 0; offset < base.size; ) {
      await link.room();
      const length = Math.min(pieceBytes, base.size - offset);
      await limit.take(length, this.#signal);
      this.#rethrow();
      const { range, ours, theirs } = await this.#ask(offset, content.subarray(0, length));
      this.#track(this.#compared(range, ours, theirs));
      offset += range.length;
    }
  }

  #rethrow(): void {
    this.#signal.throwIfAborted();
    if (this.#failure) throw this.#failure.error;
  }

  /** Reads as much of `content` as is current when the read has ended, and asks for the standby's digests of the same. */
  async #ask(offset: number, content: Buffer): Promise<{ range: Range; ours: Buffer; theirs: Promise<Buffer> }> {
    const { base, link } = this.#options;
    for (let length = content.length; ; length = smaller(length)) {
      const range = { offset, length };
      const target = content.subarray(0, length);
      const reading = { range, void: false };
      this.#reading.add(reading);
      try {
        const completion = base.read(offset, target);
        if (completion) await completion;
      } finally {
        this.#reading.delete(reading);
      }
      this.#signal.throwIfAborted();
      if (!reading.void) return { range, ours: digestsOf(target), theirs: link.requestDigests(range) };
    }
  }

  #track(comparison: Promise<void>): void {
    const tracked: Promise<void> = comparison
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#comparing.delete(tracked));
    this.#comparing.add(tracked);
  }

  async #compared(range: Range, ours: Buffer, answer: Promise<Buffer>): Promise<void> {
    const theirs = await answer;
    // What the standby was not told any more makes no difference of the copies.
    this.#signal.throwIfAborted();
    if (theirs.length !== ours.length) {
      throw new UnderstudyError('Protocol', `expected ${ours.length} bytes of digests, got ${theirs.length}`);
    }
    for (const chunk of differingChunks(ours, theirs)) {
      const offset = range.offset + chunk * digestChunkBytes;
      await this.#refine({ offset, length: Math.min(digestChunkBytes, range.offset + range.length - offset) });
    }
    this.#verifiedBytes += range.length;
  }

  /** Finds the blocks in which a chunk differs. If they agree by now, the guest has just overwritten what differed. */
  async #refine(chunk: Range): Promise<void> {
    this.#refinedChunks += 1;
    if (this.#refinedChunks > maxRefinedChunks) return this.#differing.add(chunk);
    const content = Buffer.allocUnsafeSlow(missedBlockBytes);
    const before = this.#differing.count;
    for (let offset = chunk.offset; offset < chunk.offset + chunk.length; offset += missedBlockBytes) {
      const length = Math.min(missedBlockBytes, chunk.offset + chunk.length - offset);
      const { range, ours, theirs } = await this.#ask(offset, content.subarray(0, length));
      const differs = differingChunks(ours, await theirs).length > 0;
      this.#signal.throwIfAborted();
      if (differs) this.#differing.add(range);
    }
    if (this.#differing.count === before) this.#differing.add(chunk);
  }
}

/** About half of it, in whole chunks or blocks. */
function smaller(length: number): number {
  const unit = length > digestChunkBytes ? digestChunkBytes : missedBlockBytes;
  return length <= missedBlockBytes ? length : Math.ceil(length / (2 * unit)) * unit;
}
