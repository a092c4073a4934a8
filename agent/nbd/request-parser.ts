import { UnderstudyError } from '../../common/errors.ts';
import { type Cookie, viewOf } from './codec.ts';
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
  /** The payload of a write that passed the check. */
  readonly data: Uint8Array | undefined;
}

/** Judges a request by its header: 0, or the error with which it will be refused. */
export type RequestCheck = (header: RequestHeader) => Errno;

/**
 * Takes requests out of received bytes, incrementally.
 *
 * - A payload that lies in one received buffer is a part of that buffer, without a copy; one that is split over several
 *   is joined in a buffer of its own, which is allocated only after the request has passed the check.
 * - The payload of a request that failed the check is skipped, however long it says it is, without being kept.
 * - Memory: what was pushed and not yet taken, and at most one payload being joined.
 */
export class RequestParser {
  readonly #check: RequestCheck;
  #waiting: Uint8Array[] = [];
  #chunk: Uint8Array = new Uint8Array(0);
  #view: DataView = viewOf(this.#chunk);
  #position = 0;
  readonly #splitHeader = new Uint8Array(length.requestHeader);
  readonly #splitHeaderView = viewOf(this.#splitHeader);
  #splitHeaderBytes = 0;
  #joining: { header: RequestHeader; data: Uint8Array; filledBytes: number } | undefined;
  #skipBytes = 0;

  constructor(check: RequestCheck) {
    this.#check = check;
  }

  /** The bytes must stay as they are: payloads are parts of them. */
  push(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#waiting.push(bytes);
  }

  /**
   * The next request, or undefined when more bytes are needed.
   * @throws UnderstudyError Protocol when there is something else than a request: no way to find the next one.
   */
  next(): NbdRequest | undefined {
    while (this.#position < this.#chunk.length || this.#advance()) {
      const request = this.#take();
      if (request) return request;
    }
    return undefined;
  }

  /** Goes on to the next received buffer. */
  #advance(): boolean {
    const chunk = this.#waiting.shift();
    if (!chunk) return false;
    this.#chunk = chunk;
    this.#view = viewOf(chunk);
    this.#position = 0;
    return true;
  }

  /** Takes what the current buffer has of the message under way; a request if that completes it. */
  #take(): NbdRequest | undefined {
    const available = this.#chunk.length - this.#position;
    if (this.#skipBytes > 0) {
      const skipped = Math.min(available, this.#skipBytes);
      this.#position += skipped;
      this.#skipBytes -= skipped;
      return undefined;
    }
    if (this.#joining) return this.#join(available);
    if (this.#splitHeaderBytes > 0 || available < length.requestHeader) return this.#joinHeader(available);
    const at = this.#position;
    this.#position += length.requestHeader;
    return this.#begin(readHeader(this.#view, at));
  }

  #joinHeader(available: number): NbdRequest | undefined {
    const taken = Math.min(available, length.requestHeader - this.#splitHeaderBytes);
    this.#splitHeader.set(this.#chunk.subarray(this.#position, this.#position + taken), this.#splitHeaderBytes);
    this.#position += taken;
    this.#splitHeaderBytes += taken;
    if (this.#splitHeaderBytes < length.requestHeader) return undefined;
    this.#splitHeaderBytes = 0;
    return this.#begin(readHeader(this.#splitHeaderView, 0));
  }

  #begin(header: RequestHeader): NbdRequest | undefined {
    const error = this.#check(header);
    if (header.type !== command.write) return request(header, error, undefined);
    if (error !== errno.none) {
      this.#skipBytes = header.length;
      return request(header, error, undefined);
    }
    const end = this.#position + header.length;
    if (end <= this.#chunk.length) {
      const data = this.#chunk.subarray(this.#position, end);
      this.#position = end;
      return request(header, errno.none, data);
    }
    this.#joining = { header, data: Buffer.allocUnsafeSlow(header.length), filledBytes: 0 };
    return undefined;
  }

  #join(available: number): NbdRequest | undefined {
    const joining = this.#joining;
    if (!joining) return undefined;
    const taken = Math.min(available, joining.data.length - joining.filledBytes);
    joining.data.set(this.#chunk.subarray(this.#position, this.#position + taken), joining.filledBytes);
    joining.filledBytes += taken;
    this.#position += taken;
    if (joining.filledBytes < joining.data.length) return undefined;
    this.#joining = undefined;
    return request(joining.header, errno.none, joining.data);
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

function request(header: RequestHeader, error: Errno, data: Uint8Array | undefined): NbdRequest {
  const { flags, type, cookieHigh, cookieLow, offset, length: bytes } = header;
  return { flags, type, cookieHigh, cookieLow, offset, length: bytes, error, data };
}
