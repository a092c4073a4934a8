import type { Socket } from 'node:net';
import type { Connection, ConnectionHandler } from '../core/connection.ts';

/**
 * A TCP or TLS socket as a Connection. What is sent within one turn of the event loop goes out in one system call, unless
 * it is flushed before.
 */
export class TcpConnection implements Connection {
  readonly #socket: Socket;
  #corked = false;
  #full = false;
  #closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.pause();
    // Errors end in `close`, which carries them to the handler; without a listener they would end the process.
    socket.on('error', () => undefined);
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  send(...pieces: Uint8Array[]): void {
    if (this.#closed || this.#socket.destroyed) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => this.flush());
    }
    for (const piece of pieces) if (!this.#socket.write(piece)) this.#full = true;
  }

  flush(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  handle(handler: ConnectionHandler): void {
    let reason: Error | undefined;
    this.#socket.on('error', (error) => {
      reason = error;
    });
    this.#socket.on('data', (bytes) => handler.received(bytes as Buffer));
    this.#socket.on('drain', () => {
      if (!this.#full) return;
      this.#full = false;
      handler.drained();
    });
    this.#socket.on('end', () => this.#socket.destroy());
    this.#socket.on('close', () => {
      this.#closed = true;
      handler.closed(reason);
    });
    if (this.#socket.destroyed && this.#socket.closed) handler.closed(undefined);
    this.#socket.resume();
  }

  destroy(reason?: Error): void {
    this.#socket.destroy(reason);
  }
}
