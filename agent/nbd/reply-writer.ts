import { type Cookie, viewOf, writeSimpleReply } from './codec.ts';
import { length } from './constants.ts';
import type { Errno } from './errno.ts';

/** Room for one reply, to be filled, and then either committed or abandoned. */
export interface Reservation {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the room begins in `bytes`. */
  readonly at: number;
  readonly size: number;
  readonly slab: Slab | undefined;
}

interface Slab {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Reservations that are neither committed nor abandoned. */
  open: number;
}

/** Where replies go; queuedBytes is what has been sent and not yet been taken over. */
export interface ReplySink {
  send(...pieces: Uint8Array[]): void;
  readonly queuedBytes: number;
}

const slabBytes = 256 * 1024;
/** A reply larger than this gets a buffer of its own. */
const maxSharedBytes = slabBytes / 4;

/**
 * Collects replies and sends as many as possible at once.
 *
 * Replies are laid out one behind the other in a slab, data behind its header, so that the answers to all requests of
 * one received buffer leave in one piece. A slab is used again from its start once the sink holds nothing of it and no
 * reservation in it is open; else the rest of it is used, and then another one.
 */
export class ReplyWriter {
  readonly #sink: ReplySink;
  #slab: Slab = newSlab();
  /** Bytes of the slab given out. */
  #usedBytes = 0;
  /** The stretch of the slab that is the newest piece to be sent; replies that follow on it make it longer. */
  #runStart = 0;
  #runEnd = 0;
  #pieces: Uint8Array[] = [];
  #piecesBytes = 0;

  constructor(sink: ReplySink) {
    this.#sink = sink;
  }

  /** Bytes committed and not yet sent. */
  get unsentBytes(): number {
    return this.#piecesBytes + this.#runEnd - this.#runStart;
  }

  simpleReply(cookie: Cookie, error: Errno): void {
    const at = this.#take(length.simpleReply);
    writeSimpleReply(this.#slab.view, at, cookie, error);
    this.#extendRun(at, length.simpleReply);
  }

  /** Adds bytes that are complete already. */
  add(bytes: Uint8Array): void {
    this.#push(bytes);
    this.#flushIfLarge();
  }

  /** Room that is filled now or later; others may be reserved, and replies sent, in between. */
  reserve(size: number): Reservation {
    if (size > maxSharedBytes) {
      const bytes = Buffer.allocUnsafeSlow(size);
      return { bytes, view: viewOf(bytes), at: 0, size, slab: undefined };
    }
    const at = this.#take(size);
    const slab = this.#slab;
    slab.open += 1;
    return { bytes: slab.bytes, view: slab.view, at, size, slab };
  }

  commit(reservation: Reservation): void {
    const { bytes, at, size, slab } = reservation;
    if (slab) slab.open -= 1;
    if (slab === this.#slab) this.#extendRun(at, size);
    else this.#push(slab ? bytes.subarray(at, at + size) : bytes);
    this.#flushIfLarge();
  }

  abandon(reservation: Reservation): void {
    const { at, size, slab } = reservation;
    if (slab) slab.open -= 1;
    if (slab === this.#slab && at + size === this.#usedBytes) this.#usedBytes = at;
  }

  flush(): void {
    this.#cut();
    if (this.#pieces.length === 0) return;
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#piecesBytes = 0;
    this.#sink.send(...pieces);
    if (this.#slab.open === 0 && this.#sink.queuedBytes === 0) this.#usedBytes = this.#runStart = this.#runEnd = 0;
  }

  #flushIfLarge(): void {
    if (this.unsentBytes >= slabBytes) this.flush();
  }

  /** So many bytes of the slab, of a new one if need be. */
  #take(size: number): number {
    if (this.#usedBytes + size > slabBytes) this.flush();
    if (this.#usedBytes + size > slabBytes) {
      this.#slab = newSlab();
      this.#usedBytes = this.#runStart = this.#runEnd = 0;
    }
    const at = this.#usedBytes;
    this.#usedBytes += size;
    return at;
  }

  #extendRun(at: number, size: number): void {
    if (at !== this.#runEnd) {
      this.#cut();
      this.#runStart = at;
    }
    this.#runEnd = at + size;
  }

  /** Makes a piece of the run. */
  #cut(): void {
    if (this.#runEnd === this.#runStart) return;
    this.#pieces.push(this.#slab.bytes.subarray(this.#runStart, this.#runEnd));
    this.#piecesBytes += this.#runEnd - this.#runStart;
    this.#runStart = this.#runEnd;
  }

  #push(piece: Uint8Array): void {
    this.#cut();
    this.#pieces.push(piece);
    this.#piecesBytes += piece.length;
  }
}

function newSlab(): Slab {
  const bytes = Buffer.allocUnsafeSlow(slabBytes);
  return { bytes, view: viewOf(bytes), open: 0 };
}
