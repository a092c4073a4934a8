import { UnderstudyError } from '../../common/errors.ts';
import { ReceiveBuffer, type Slab } from '../core/receive-buffer.ts';
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
  /** Valid until the frame is released. */
  readonly payload: Buffer;
  /** The memory that the payload is part of, if it can be used again. */
  readonly slab?: Slab;
}

const emptyPayload = Buffer.alloc(0);

/**
 * Cuts a byte stream into frames. Where a connection can receive into memory of the parser's (`room`, `filled`), a payload
 * lies there in one piece without having been copied. Of bytes that were received elsewhere (`push`) only a frame that is
 * spread over several buffers is copied there, the payloads of the others are parts of these. Lengths are checked before
 * anything is allocated. Memory: what is incomplete, and the payloads of frames that have not been released.
 */
export class FrameParser {
  /** Made when it is needed: most connections bring little. */
  #received: ReceiveBuffer | undefined;
  /** The frame whose payload is awaited. */
  #awaiting: Header | undefined;

  get #buffer(): ReceiveBuffer {
    this.#received ??= new ReceiveBuffer();
    return this.#received;
  }

  /** Where to receive the next bytes. */
  room(): Uint8Array {
    return this.#buffer.room();
  }

  /**
   * So many bytes have been received where `room` said.
   * @returns the frames that they complete, in order.
   * @throws UnderstudyError Protocol at the first header that is not valid; the stream cannot be followed after that.
   */
  filled(bytes: number): Frame[] {
    this.#buffer.filled(bytes);
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame; frame = this.#next()) frames.push(frame);
    return frames;
  }

  /** The same with bytes that have been received elsewhere, and stay as they are. */
  push(bytes: Uint8Array): Frame[] {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length && this.#missingBytes > 0) at = this.#gather(chunk, at, frames);
    at = cutFrames(chunk, at, frames);
    while (at < chunk.length) at = this.#gather(chunk, at, frames);
    return frames;
  }

  /** The frame has been dealt with: its payload is not used any more. */
  release({ slab }: Frame): void {
    if (slab) this.#buffer.release(slab);
  }

  /** Of the header or the payload that has come in part; 0: the next byte begins a frame. */
  get #missingBytes(): number {
    const available = this.#received?.availableBytes ?? 0;
    if (this.#awaiting) return this.#awaiting.payloadLength - available;
    return available > 0 ? headerBytes - available : 0;
  }

  /** Copies what completes a header or a payload, not more. @returns where the rest begins */
  #gather(chunk: Buffer, at: number, frames: Frame[]): number {
    const room = this.room();
    const part = chunk.subarray(at, at + Math.min(this.#missingBytes || headerBytes, room.length));
    room.set(part);
    for (const frame of this.filled(part.length)) frames.push(frame);
    return at + part.length;
  }

  #next(): Frame | undefined {
    const buffer = this.#buffer;
    const header = this.#awaiting ?? this.#readHeader();
    if (!header) return undefined;
    const { payloadLength } = header;
    if (payloadLength === 0) return frameOf(header, emptyPayload);
    if (buffer.availableBytes < payloadLength) {
      this.#awaiting = header;
      buffer.need(payloadLength);
      return undefined;
    }
    this.#awaiting = undefined;
    const { data, slab } = buffer.take(payloadLength);
    return { ...frameOf(header, Buffer.from(data.buffer, data.byteOffset, data.length)), slab };
  }

  #readHeader(): Header | undefined {
    const buffer = this.#buffer;
    if (buffer.availableBytes < headerBytes) return undefined;
    const header = decodeHeader(buffer.view, buffer.position);
    buffer.skip(headerBytes);
    return header;
  }
}

/** The frames that some bytes consist of; their payloads are parts of these. @throws UnderstudyError Protocol */
export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  if (cutFrames(bytes, 0, frames) < bytes.length) throw new UnderstudyError('Protocol', 'frames that end within one');
  return frames;
}

/** Takes whole frames out of a buffer. @returns where the first one begins that is not complete */
function cutFrames(bytes: Buffer, from: number, frames: Frame[]): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = from;
  while (bytes.length - at >= headerBytes) {
    const header = decodeHeader(view, at);
    const end = at + headerBytes + header.payloadLength;
    if (end > bytes.length) break;
    frames.push(frameOf(header, header.payloadLength === 0 ? emptyPayload : bytes.subarray(at + headerBytes, end)));
    at = end;
  }
  return at;
}

type Header = Omit<Frame, 'payload' | 'slab'> & { readonly payloadLength: number };

function frameOf({ type, flags, sequence, offset, length }: Header, payload: Buffer): Frame {
  return { type, flags, sequence, offset, length, payload };
}

function decodeHeader(view: DataView, at: number): Header {
  const type = view.getUint8(at);
  if (!isFrameType(type)) throw new UnderstudyError('Protocol', `unknown frame type ${type} on a mirror link`);
  const payloadLength = view.getUint32(at + 4, true);
  if (payloadLength > maxPayloadBytes) {
    throw new UnderstudyError(
      'Protocol',
      `frame with ${payloadLength} bytes of payload: expected at most ${maxPayloadBytes}`,
    );
  }
  return {
    type,
    flags: view.getUint8(at + 1),
    sequence: view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * twoTo32,
    offset: view.getUint32(at + 16, true) + view.getUint32(at + 20, true) * twoTo32,
    length: view.getUint32(at + 24, true),
    payloadLength,
  };
}

function isFrameType(type: number): type is FrameType {
  return knownTypes.has(type);
}
