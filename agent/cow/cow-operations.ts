import type { BlockDevice, Completion } from '../core/block-device.ts';
import type { Preserver } from './preserver.ts';
import type { WaitingOperation } from './waiting-queue.ts';

/** What an operation needs of the device that it belongs to. */
export interface OperationHost {
  readonly base: BlockDevice;
  readonly preserver: Preserver;
  readonly chunkSizeBytes: number;
  /** Passes an operation to the volume, and keeps account of it until it is over. */
  issue(completion: Completion): Completion;
  /** No operation on the volume is under way. */
  readonly quiet: boolean;
  /** Operations that wait may go on. */
  progress(): void;
}

/** The part that waiting operations have in common: a promise for the caller. */
class Deferred {
  readonly promise: Promise<void>;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  settleWith(completion: Completion): void {
    if (completion === undefined) this.#resolve();
    else completion.then(this.#resolve, this.#reject);
  }
}

/** A read behind a write that waits. */
export class WaitingRead extends Deferred implements WaitingOperation {
  readonly kind = 'read';
  readonly offset: number;
  readonly end: number;
  readonly #issue: () => Completion;

  constructor(offset: number, length: number, issue: () => Completion) {
    super();
    this.offset = offset;
    this.end = offset + length;
    this.#issue = issue;
  }

  advance(): boolean {
    this.settleWith(this.#issue());
    return true;
  }
}

/** A write, which goes to the volume in one piece when all its chunks are preserved. */
export class WaitingWrite extends Deferred implements WaitingOperation {
  readonly kind = 'write';
  readonly offset: number;
  readonly end: number;
  readonly #host: OperationHost;
  readonly #issue: () => Completion;

  constructor(host: OperationHost, offset: number, length: number, issue: () => Completion) {
    super();
    this.offset = offset;
    this.end = offset + length;
    this.#host = host;
    this.#issue = issue;
  }

  advance(): boolean {
    if (!chunksReady(this.#host, this.offset, this.end, false)) return false;
    this.settleWith(this.#host.issue(this.#issue()));
    return true;
  }
}

/**
 * Zeroing or trimming, of any length: it is passed on in pieces, so that neither the preserved chunks of a whole volume
 * are under way at once, nor the calling code kept busy for long. Chunks that are all zeroes keep their content, and are
 * not preserved.
 */
export class WaitingZeroes extends Deferred implements WaitingOperation {
  readonly kind = 'write';
  readonly end: number;
  offset: number;
  readonly #host: OperationHost;
  readonly #issue: (offset: number, length: number) => Completion;
  #pieceUnderWay = false;

  constructor(
    host: OperationHost,
    offset: number,
    length: number,
    issue: (offset: number, length: number) => Completion,
  ) {
    super();
    this.offset = offset;
    this.end = offset + length;
    this.#host = host;
    this.#issue = issue;
  }

  advance(): boolean {
    while (!this.#pieceUnderWay && this.offset < this.end) {
      const pieceBytes = piecesOfChunks * this.#host.chunkSizeBytes;
      const pieceEnd = Math.min(this.end, this.offset - (this.offset % pieceBytes) + pieceBytes);
      if (!chunksReady(this.#host, this.offset, pieceEnd, true)) return false;
      const completion = this.#host.issue(this.#issue(this.offset, pieceEnd - this.offset));
      if (pieceEnd === this.end) {
        this.settleWith(completion);
        return true;
      }
      if (completion) this.#waitFor(completion, pieceEnd);
      else this.offset = pieceEnd;
    }
    return this.offset >= this.end;
  }

  #waitFor(completion: Promise<void>, pieceEnd: number): void {
    this.#pieceUnderWay = true;
    completion.then(
      () => {
        this.#pieceUnderWay = false;
        this.offset = pieceEnd;
        this.#host.progress();
      },
      () => {
        this.offset = this.end;
        this.settleWith(completion);
        this.#host.progress();
      },
    );
  }
}

/** A point between the writes called before and those called after. */
export class WaitingBarrier implements WaitingOperation {
  readonly kind = 'barrier';
  readonly offset = 0;
  readonly end = 0;
  readonly #pass: () => void;

  constructor(pass: () => void) {
    this.#pass = pass;
  }

  advance(): boolean {
    this.#pass();
    return true;
  }
}

/** Starts the preservation of every chunk of a range that needs it; true if none does. */
function chunksReady(host: OperationHost, offset: number, end: number, zeroing: boolean): boolean {
  const { chunkSizeBytes, preserver } = host;
  const last = Math.floor((end - 1) / chunkSizeBytes);
  let ready = true;
  for (let chunk = Math.floor(offset / chunkSizeBytes); chunk <= last; chunk += 1) {
    if (preserver.isReady(chunk)) continue;
    if (zeroing && readsAsZeroes(host, chunk)) continue;
    if (!preserver.ready(chunk)) ready = false;
  }
  return ready;
}

/** Operations under way in the volume may still change what it holds, so only a quiet one can tell. */
function readsAsZeroes({ base, chunkSizeBytes, quiet }: OperationHost, chunk: number): boolean {
  if (!quiet) return false;
  const offset = chunk * chunkSizeBytes;
  const length = Math.min(chunkSizeBytes, base.size - offset);
  return base.extents(offset, length).every((extent) => extent.zero);
}

const piecesOfChunks = 256;
