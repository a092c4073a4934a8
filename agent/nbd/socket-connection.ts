import type { Socket } from 'node:net';
import type { ConnectionHandler } from '../core/connection.ts';
import type { NbdConnection } from './session.ts';

/**
 * A socket, plain or with TLS, as the connection of a session.
 *
 * It takes the buffers that Node allocates for each read. Reading into larger buffers of our own (`onread`) was tried and
 * showed no clear gain, and sockets that a server has accepted cannot have it without Node's internals.
 */
export class SocketConnection implements NbdConnection {
  readonly socket: Socket;
  #detach: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
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

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  handle(handler: ConnectionHandler): void {
    const { socket } = this;
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
