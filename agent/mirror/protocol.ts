/**
 * The mirror protocol, version 1: one TCP (or TLS) connection per mirror, opened by the primary.
 *
 * A frame is a header of 32 bytes, little-endian, and a payload:
 *
 *   offset  0  u8   type
 *           1  u8   flags
 *           2  u16  zero
 *           4  u32  payload length in bytes, at most maxPayloadBytes
 *           8  u64  sequence
 *          16  u64  offset in the volume, in bytes
 *          24  u32  length of the range in bytes (for frames whose range is not their payload)
 *          28  u32  zero
 *
 * The primary numbers its frames that change the standby (write, zero, barrier, flush, and the resync frames) with
 * sequences that grow by one within a link, beginning at 1. The standby takes effect in that order and answers with the
 * highest sequence that it holds, and the highest that is applied and on stable storage. All other content is JSON,
 * see messages.ts.
 *
 * On an asynchronous mirror (`mode` in the hello, which the welcome must list among its features) a `stream` frame says
 * from which position of which stream on the entries follow: after the end of a resync, or, instead of one, as an answer
 * to a welcome that names exactly that position. Entries are frames with the flag `stream`. A flush among them is a
 * marker: the standby has synced before it applies what comes behind. A `packed` frame holds frames as they would have
 * been sent, compressed with zstd, and in its length how many bytes they are.
 */
export const protocolVersion = 1;

export const headerBytes = 32;
/** The largest write that an NBD client may send, and some room. */
export const maxPayloadBytes = 33 * 1024 * 1024;
export const maxJsonBytes = 64 * 1024;

export const frameTypes = {
  // From the primary.
  hello: 1,
  write: 2,
  zero: 3,
  flush: 4,
  barrier: 5,
  resyncBegin: 6,
  resyncEnd: 7,
  inSync: 8,
  digestRequest: 9,
  ping: 10,
  stream: 11,
  packed: 12,
  // From the standby.
  welcome: 65,
  refuse: 66,
  held: 67,
  synced: 68,
  failed: 69,
  barrierDone: 70,
  resyncAccepted: 71,
  digests: 72,
  pong: 73,
  confirmed: 74,
} as const;

export type FrameType = (typeof frameTypes)[keyof typeof frameTypes];

export const frameFlags = {
  /** The write must be on stable storage when the sequence is reported as synced; a flush follows. */
  fua: 1,
  /** Zeroes keep their space allocated. */
  keepAllocated: 2,
  /** The content comes from a resync, not from the guest. */
  resync: 4,
  /** An entry of an asynchronous mirror's stream: the standby's position in it grows by one. */
  stream: 8,
} as const;

/** Digests in a resync and a verification are of chunks of this size. */
export const digestChunkBytes = 64 * 1024;
/** Bytes of one digest on the wire. */
export const digestBytes = 16;
