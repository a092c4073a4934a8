import { Socket } from 'node:net';
import type { ReceivingHandler } from '../core/connection.ts';
import { SocketReceiver } from '../core/socket-receiver.ts';
import type { NbdConnection } from './session.ts';

/**
 * A socket, plain or with TLS, as the connection of a session.
 *
 * Node gives a socket that a server has accepted, or one with TLS, a new buffer for every read. `adopt` makes one that is
 * read into memory of the handler's choice.
 */
export class SocketConnection implements NbdConnection {
  readonly socket: Socket;
  readonly #receiver: SocketReceiver | undefined;
  #detach: () => void = () => {};

  /** Takes over the descriptor of a connected socket. */
  static adopt(descriptor: number): SocketConnection {
    const receiver = new SocketReceiver();
    const onread = {
      buffer: () => receiver.room(),
      callback: (bytes: number) => receiver.received(bytes),
    };
    return new SocketConnection(new Socket({ fd: descriptor, readable: true, writable: true, onread }), receiver);
  }

  constructor(socket: Socket, receiver?: SocketReceiver) {
    this.socket = socket;
    this.#receiver = receiver;
    // Until there is a handler, and after it has let go, an error must not become an uncaught exception.
    socket.on('error', () => {});
  }

  get queuedBytes(): number {
    return this.socket.writableLength;
  }

  send(...pieces: Uint8Array[]): void {
    const { socket } = this;
    if (!socket.writable) return;
    const [first] = pieces;
    if (pieces.length === 1 && first) {
      socket.write(first);
      return;
    }
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    socket.uncork();
  }

  flush(): void {
    // What is sent goes out at once; replies that leave together are sent together.
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  handle(handler: ReceivingHandler): void {
    const { socket } = this;
    if (this.#receiver) this.#receiver.handler = handler;
    let failure: Error | undefined;
    const onData = (bytes: Uint8Array) => handler.received(bytes);
    const onDrain = () => handler.drained();
    const onError = (error: Error) => {
      failure = error;
    };
    const onClose = () => handler.closed(failure);
    socket.on('data', onData).on('drain', onDrain).on('error', onError).on('close', onClose);
    this.#detach = () => {
      socket.off('data', onData).off('drain', onDrain).off('error', onError).off('close', onClose);
    };
  }

  /** Lets go of the socket, paused, for someone else to use it. */
  detach(): Socket {
    this.socket.pause();
    this.#detach();
    return this.socket;
  }

  end(): void {
    this.socket.destroySoon();
  }

  destroy(reason?: Error): void {
    this.socket.destroy(reason);
  }
}
