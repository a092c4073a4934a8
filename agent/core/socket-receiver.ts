import type { ConnectionHandler, ReceivingHandler } from './connection.ts';

/** For a handler that has no memory of its own yet, before the requests of an NBD client: little comes then. */
const ownBytes = 64 * 1024;

/** Decides where a socket's next bytes go, and tells the handler about those that have come. */
export class SocketReceiver {
  handler: ConnectionHandler | ReceivingHandler | undefined;
  readonly #own = Buffer.allocUnsafeSlow(ownBytes);
  #isHandlers = false;

  /** Asked once before the first read, and then after each. */
  room(): Uint8Array {
    const { handler } = this;
    const room = handler && 'room' in handler ? handler.room() : undefined;
    this.#isHandlers = room !== undefined;
    return room ?? this.#own;
  }

  /** So many bytes are where `room` said. Returns true: reading goes on unless the handler has paused it. */
  received(bytes: number): boolean {
    const { handler } = this;
    if (this.#isHandlers && handler && 'filled' in handler) handler.filled(bytes);
    else handler?.received(Buffer.from(this.#own.subarray(0, bytes)));
    return true;
  }
}
