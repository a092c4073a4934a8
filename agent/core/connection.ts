/**
 * An ordered, reliable stream of bytes to one peer (a TCP or TLS socket, or the simulation's). Exactly one handler
 * receives what comes in; a buffer handed to it stays valid and is never reused.
 */
export interface Connection {
  /** Queues the pieces in order. They may be referenced until sent: the caller does not modify them afterwards. */
  send(...pieces: Uint8Array[]): void;
  /** What was sent in this turn of the event loop goes out now, not at the turn's end together with what comes. */
  flush(): void;
  /** Bytes queued here and not yet taken over by the operating system; for back-pressure. */
  readonly queuedBytes: number;
  /** Stops and restarts the delivery of incoming bytes; what is not read makes the peer's sends wait. */
  pause(): void;
  resume(): void;
  handle(handler: ConnectionHandler | ReceivingHandler): void;
  /** Ends the connection at once; `closed` follows. A second call does nothing. */
  destroy(reason?: Error): void;
}

export interface ConnectionHandler {
  received(bytes: Uint8Array): void;
  /** queuedBytes has fallen to zero after a send found the pipe full. */
  drained(): void;
  /** Called exactly once, last. */
  closed(reason: Error | undefined): void;
}

/** A handler that has memory of its own for what comes in; a connection that cannot receive there calls `received`. */
export interface ReceivingHandler extends ConnectionHandler {
  /**
   * Asked before bytes are received: where to put the next ones, or undefined if they may come in any buffer. For those
   * that have been put there `filled` is called instead of `received`.
   */
  room(): Uint8Array | undefined;
  filled(bytes: number): void;
}
