import { UnderstudyError } from '../../common/errors.ts';
import { type FrameType, frameTypes, headerBytes, maxPayloadBytes } from './protocol.ts';

const knownTypes: ReadonlySet<number> = new Set(Object.values(frameTypes));
const slabBytes = 64 * 1024;
const twoTo32 = 2 ** 32;

/** Encodes headers into slabs that are shared by many frames: an allocation for each would cost more than the header. */
export class HeaderEncoder {
  #slab = Buffer.alloc(0);
  #words = new Uint32Array(0);
  #used = 0;

  /** A header; it is never reused, so it may be queued in a socket. */
  encode(type: FrameType, flags: number, payloadLength: number, sequence = 0, offset = 0, length = 0): Buffer {
    if (this.#used + headerBytes > this.#slab.length) {
      this.#slab = Buffer.from(new ArrayBuffer(slabBytes));
      this.#words = new Uint32Array(this.#slab.buffer);
      this.#used = 0;
    }
    const start = this.#used;
    this.#used = start + headerBytes;
    const words = this.#words;
    const word = start >>> 2;
    words[word] = type | (flags << 8);
    words[word + 1] = payloadLength;
    words[word + 2] = sequence >>> 0;
    words[word + 3] = Math.floor(sequence / twoTo32);
    words[word + 4] = offset >>> 0;
    words[word + 5] = Math.floor(offset / twoTo32);
    words[word + 6] = length;
    return this.#slab.subarray(start, start + headerBytes);
  }
}

export interface Frame {
  readonly type: FrameType;
  readonly flags: number;
  readonly sequence: number;
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
}

const emptyPayload = Buffer.alloc(0);

/**
 * Cuts a byte stream into frames. A payload that lies in one received buffer is a view of it, one that is spread over
 * several is copied together once. Lengths are checked before anything is allocated.
 */
export class FrameParser {
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  /** The frame whose payload is being gathered. */
  #pending: Frame | undefined;
  #payloadFilled = 0;

  /**
   * @returns the frames that `bytes` completes, in order.
   * @throws UnderstudyError Protocol at the first header that is not valid; the stream cannot be followed after that.
   */
  push(bytes: Uint8Array): Frame[] {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const frames: Frame[] = [];
    let position = 0;
    while (position < chunk.length) {
      position = this.#pending ? this.#gather(chunk, position, frames) : this.#readHeader(chunk, position, frames);
    }
    return frames;
  }

  #readHeader(chunk: Buffer, position: number, frames: Frame[]): number {
    let header = chunk;
    let at = position;
    let next = position + headerBytes;
    if (this.#headerFilled > 0 || chunk.length - position < headerBytes) {
      const copied = Math.min(headerBytes - this.#headerFilled, chunk.length - position);
      chunk.copy(this.#header, this.#headerFilled, position, position + copied);
      this.#headerFilled += copied;
      if (this.#headerFilled < headerBytes) return position + copied;
      this.#headerFilled = 0;
      header = this.#header;
      at = 0;
      next = position + copied;
    }
    const payloadLength = header.readUInt32LE(at + 4);
    if (payloadLength > 0 && chunk.length - next < payloadLength) {
      const frame = decodeHeader(header, at, Buffer.alloc(0), payloadLength);
      this.#pending = { ...frame, payload: Buffer.allocUnsafeSlow(payloadLength) };
      this.#payloadFilled = 0;
      return next;
    }
    const end = next + payloadLength;
    const payload = payloadLength === 0 ? emptyPayload : chunk.subarray(next, end);
    frames.push(decodeHeader(header, at, payload, payloadLength));
    return end;
  }

  #gather(chunk: Buffer, position: number, frames: Frame[]): number {
    const frame = this.#pending;
    if (!frame) return position;
    const copied = Math.min(frame.payload.length - this.#payloadFilled, chunk.length - position);
    chunk.copy(frame.payload, this.#payloadFilled, position, position + copied);
    this.#payloadFilled += copied;
    if (this.#payloadFilled === frame.payload.length) {
      this.#pending = undefined;
      frames.push(frame);
    }
    return position + copied;
  }
}

function decodeHeader(header: Buffer, at: number, payload: Buffer, payloadLength: number): Frame {
  const type = header.readUInt8(at);
  if (!isFrameType(type)) throw new UnderstudyError('Protocol', `unknown frame type ${type} on a mirror link`);
  if (payloadLength > maxPayloadBytes) {
    throw new UnderstudyError(
      'Protocol',
      `frame with ${payloadLength} bytes of payload: expected at most ${maxPayloadBytes}`,
    );
  }
  return {
    type,
    flags: header.readUInt8(at + 1),
    sequence: header.readUInt32LE(at + 8) + header.readUInt32LE(at + 12) * twoTo32,
    offset: header.readUInt32LE(at + 16) + header.readUInt32LE(at + 20) * twoTo32,
    length: header.readUInt32LE(at + 24),
    payload,
  };
}

function isFrameType(type: number): type is FrameType {
  return knownTypes.has(type);
}
