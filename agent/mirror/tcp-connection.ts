import { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Connection, ConnectionHandler, ReceivingHandler } from '../core/connection.ts';
import { SocketReceiver } from '../core/socket-receiver.ts';

/**
 * A TCP or TLS socket as a Connection. What is sent within one turn of the event loop goes out in one system call, unless
 * it is flushed before. One that has been adopted is read into memory of the handler's, if that has any. With TLS, where every record of
 * 16 KiB comes by itself, what has come in one turn is delivered in one piece: the handler answers each delivery.
 */
export class TcpConnection implements Connection {
  readonly #socket: Socket;
  #corked = false;
  #full = false;
  #closed = false;
  readonly #receiver: SocketReceiver | undefined;
  #handler: ConnectionHandler | undefined;
  /** Records that have come and not been delivered. */
  #records: Buffer[] = [];
  #paused = true;

  /** Takes over the descriptor of a connected socket. */
  static adopt(descriptor: number): TcpConnection {
    const receiver = new SocketReceiver();
    const onread = { buffer: () => receiver.room(), callback: (bytes: number) => receiver.received(bytes) };
    return new TcpConnection(new Socket({ fd: descriptor, readable: true, writable: true, onread }), receiver);
  }

  constructor(socket: Socket, receiver?: SocketReceiver) {
    this.#socket = socket;
    this.#receiver = receiver;
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
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#records.length > 0) setImmediate(() => this.#deliver());
    this.#socket.resume();
  }

  handle(handler: ConnectionHandler | ReceivingHandler): void {
    this.#handler = handler;
    if (this.#receiver) this.#receiver.handler = handler;
    let reason: Error | undefined;
    this.#socket.on('error', (error) => {
      reason = error;
    });
    const gathers = this.#socket instanceof TLSSocket;
    this.#socket.on('data', (bytes: Buffer) => (gathers ? this.#gather(bytes) : handler.received(bytes)));
    this.#socket.on('drain', () => {
      if (!this.#full) return;
      this.#full = false;
      handler.drained();
    });
    this.#socket.on('end', () => {
      this.#deliver();
      this.#socket.destroy();
    });
    this.#socket.on('close', () => {
      this.#closed = true;
      handler.closed(reason);
    });
    if (this.#socket.destroyed && this.#socket.closed) handler.closed(undefined);
    this.resume();
  }

  destroy(reason?: Error): void {
    this.#socket.destroy(reason);
  }

  #gather(record: Buffer): void {
    if (this.#records.length === 0) setImmediate(() => this.#deliver());
    this.#records.push(record);
  }

  #deliver(): void {
    const [first] = this.#records;
    if (!first || this.#paused || this.#socket.destroyed) return;
    const bytes = this.#records.length === 1 ? first : Buffer.concat(this.#records);
    this.#records = [];
    this.#handler?.received(bytes);
  }
}
