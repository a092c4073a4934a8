import { UnderstudyError } from '../../common/errors.ts';
import { ReceiveBuffer, type Slab } from '../core/receive-buffer.ts';
import type { Cookie } from './codec.ts';
import { command, length, magic } from './constants.ts';
import { type Errno, errno } from './errno.ts';

/** A request as it came in. */
export interface RequestHeader extends Cookie {
  readonly flags: number;
  readonly type: number;
  /** Bytes; above 2^53 it is not exact, and past the end of every export. */
  readonly offset: number;
  readonly length: number;
}

export interface NbdRequest extends RequestHeader {
  /** What the check said; above 0 the request is to be refused with it. */
  readonly error: Errno;
  /** The payload of a write that passed the check, until the request is released. */
  readonly data: Uint8Array | undefined;
  readonly slab: Slab | undefined;
}

/** Judges a request by its header: 0, or the error with which it will be refused. */
export type RequestCheck = (header: RequestHeader) => Errno;

/**
 * Takes requests out of received bytes, incrementally.
 *
 * - The bytes are received into its own memory (`room`, `filled`), in which a payload lies in one piece, without having
 *   been copied; memory for a long one is allocated only after the request has passed the check.
 * - A payload belongs to the request until that is released.
 * - The payload of a request that failed the check is skipped, however long it says it is, without being kept.
 * - Memory: what was received and not yet taken, and what belongs to requests; see ReceiveBuffer.
 */
export class RequestParser {
  readonly #check: RequestCheck;
  readonly #buffer = new ReceiveBuffer();
  /** The write whose payload is awaited. */
  #awaiting: RequestHeader | undefined;
  #skipBytes = 0;

  constructor(check: RequestCheck) {
    this.#check = check;
  }

  /** Where to receive the next bytes. */
  room(): Uint8Array {
    return this.#buffer.room();
  }

  /** So many bytes have been received where `room` said. */
  filled(bytes: number): void {
    this.#buffer.filled(bytes);
  }

  /** Takes bytes that have been received elsewhere; they are copied. */
  push(bytes: Uint8Array): void {
    // What is to be skipped need not be copied first.
    let rest = this.#buffer.availableBytes === 0 ? bytes.subarray(this.#skipped(bytes.length)) : bytes;
    while (rest.length > 0) {
      const room = this.#buffer.room();
      const part = rest.subarray(0, room.length);
      room.set(part);
      this.#buffer.filled(part.length);
      rest = rest.subarray(part.length);
    }
  }

  /**
   * The next request, or undefined when more bytes are needed.
   * @throws UnderstudyError Protocol when there is something else than a request: no way to find the next one.
   */
  next(): NbdRequest | undefined {
    const buffer = this.#buffer;
    if (this.#skipBytes > 0) buffer.skip(this.#skipped(buffer.availableBytes));
    if (this.#awaiting) return this.#takePayload(this.#awaiting);
    if (buffer.availableBytes < length.requestHeader) return undefined;
    const header = readHeader(buffer.view, buffer.position);
    const error = this.#check(header);
    buffer.skip(length.requestHeader);
    if (header.type !== command.write) return request(header, error);
    if (error === errno.none) return this.#takePayload(header);
    this.#skipBytes = header.length;
    return request(header, error);
  }

  /** The request has been dealt with: its payload is not used any more. */
  release({ slab }: NbdRequest): void {
    if (slab) this.#buffer.release(slab);
  }

  /** How many of the available bytes are to be skipped. */
  #skipped(availableBytes: number): number {
    const skipped = Math.min(availableBytes, this.#skipBytes);
    this.#skipBytes -= skipped;
    return skipped;
  }

  #takePayload(header: RequestHeader): NbdRequest | undefined {
    if (this.#buffer.availableBytes < header.length) {
      this.#awaiting = header;
      this.#buffer.need(header.length);
      return undefined;
    }
    this.#awaiting = undefined;
    const { data, slab } = this.#buffer.take(header.length);
    return request(header, errno.none, data, slab);
  }
}

function readHeader(view: DataView, at: number): RequestHeader {
  if (view.getUint32(at) !== magic.request) {
    throw new UnderstudyError('Protocol', `a request without its magic number: 0x${view.getUint32(at).toString(16)}`);
  }
  return {
    flags: view.getUint16(at + 4),
    type: view.getUint16(at + 6),
    cookieHigh: view.getUint32(at + 8),
    cookieLow: view.getUint32(at + 12),
    offset: view.getUint32(at + 16) * 0x1_0000_0000 + view.getUint32(at + 20),
    length: view.getUint32(at + 24),
  };
}

function request(header: RequestHeader, error: Errno, data?: Uint8Array, slab?: Slab): NbdRequest {
  const { flags, type, cookieHigh, cookieLow, offset, length: bytes } = header;
  return { flags, type, cookieHigh, cookieLow, offset, length: bytes, error, data, slab };
}
