const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;

/** What one client may cost. Every limit is checked before a byte is allocated for what it bounds. */
export interface NbdLimits {
  /** Connections at a time, those in their handshake included; further ones are closed at once. */
  readonly maxConnections: number;
  /** A handshake that takes longer is cut off, and so is the TLS handshake within it. */
  readonly handshakeMs: number;
  readonly maxOptions: number;
  /** Data of one option; of a longer one nothing is kept. */
  readonly maxOptionBytes: number;
  /** Everything that is sent in one handshake, the answers to LIST above all. */
  readonly maxHandshakeReplyBytes: number;
  /** Metadata contexts that a connection may select. */
  readonly maxContexts: number;
  /** Payload of one read or write; what is advertised as the maximum to clients. */
  readonly maxPayloadBytes: number;
  /** Requests of a connection under way in the device; at this many nothing more is read from the socket. */
  readonly maxRequestsInFlight: number;
  /** Payload of requests under way and of replies not yet taken by the client; the same. One request always fits. */
  readonly maxBytesInFlight: number;
  /** How long the server waits, when it ends a connection, for requests under way and for replies to be taken. */
  readonly drainMs: number;
}

export const defaultLimits: NbdLimits = {
  maxConnections: 256,
  handshakeMs: 30_000,
  maxOptions: 1024,
  maxOptionBytes: 64 * kibibyte,
  maxHandshakeReplyBytes: 16 * mebibyte,
  maxContexts: 64,
  maxPayloadBytes: 32 * mebibyte,
  maxRequestsInFlight: 256,
  maxBytesInFlight: 64 * mebibyte,
  drainMs: 5_000,
};
