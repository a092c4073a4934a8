import type { ConnectionHandler } from '../../agent/core/connection.ts';
import type { NbdConnection } from '../../agent/nbd/session.ts';

/** A connection whose other end is the test: it delivers bytes, and takes what is sent at once or only when told. */
export class MemoryConnection implements NbdConnection {
  #handler: ConnectionHandler | undefined;
  #sent: Uint8Array[] = [];
  readonly pieceCounts: number[] = [];
  /** Nothing that is sent is taken over by the operating system. */
  stuck = false;
  queuedBytes = 0;
  isPaused = false;
  isEnding = false;
  isClosed = false;
  closeReason: Error | undefined;

  send(...pieces: Uint8Array[]): void {
    if (this.isClosed) return;
    this.pieceCounts.push(pieces.length);
    for (const piece of pieces) {
      this.#sent.push(Buffer.from(piece));
      if (this.stuck) this.queuedBytes += piece.length;
    }
  }

  flush(): void {
    // Nothing is kept back here.
  }

  /** What was sent since the last call. */
  takeSent(): Buffer {
    return Buffer.concat(this.#sent.splice(0));
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  handle(handler: ConnectionHandler): void {
    this.#handler = handler;
  }

  end(): void {
    this.isEnding = true;
    if (this.queuedBytes === 0) this.destroy();
  }

  destroy(reason?: Error): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.closeReason = reason;
    this.#handler?.closed(reason);
  }

  /** Bytes from the peer; like a socket it delivers nothing while it is paused. */
  deliver(bytes: Uint8Array): void {
    if (this.isPaused) throw new Error('the connection is paused');
    this.#handler?.received(bytes);
  }

  /** The peer takes everything that was sent. */
  drain(): void {
    this.stuck = false;
    this.queuedBytes = 0;
    this.#handler?.drained();
    if (this.isEnding) this.destroy();
  }
}
