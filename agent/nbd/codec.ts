import { UnderstudyError } from '../../common/errors.ts';
import { chunkType, handshakeFlag, info, length, magic, optionReply, replyFlagDone } from './constants.ts';
import type { ContextExtent } from './exports.ts';

/**
 * Bytes of NBD messages, both ways. All integers are in network byte order. Whatever is decoded here has been limited in
 * length by the caller; a message that contradicts itself is UnderstudyError Invalid.
 */

const utf8 = new TextDecoder('utf-8', { fatal: true });

// Handshake, server to client

export function encodeGreeting(): Uint8Array {
  const bytes = Buffer.alloc(length.greeting);
  bytes.writeBigUInt64BE(magic.greeting, 0);
  bytes.writeBigUInt64BE(magic.option, 8);
  bytes.writeUInt16BE(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes, 16);
  return bytes;
}

export function encodeOptionReply(optionCode: number, type: number, payload: Uint8Array = Buffer.alloc(0)): Uint8Array {
  const header = Buffer.alloc(length.optionReplyHeader);
  header.writeBigUInt64BE(magic.optionReply, 0);
  header.writeUInt32BE(optionCode, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(payload.length, 16);
  return Buffer.concat([header, payload]);
}

/** An error reply; the message is for people and cut to what a string may have. */
export function encodeOptionError(optionCode: number, type: number, message: string): Uint8Array {
  return encodeOptionReply(optionCode, type, encodeText(message));
}

/** One entry of the answer to LIST. */
export function encodeServer(optionCode: number, name: string): Uint8Array {
  const text = Buffer.from(name);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(text.length);
  return encodeOptionReply(optionCode, optionReply.server, Buffer.concat([size, text]));
}

export function encodeInfoExport(optionCode: number, sizeBytes: number, flags: number): Uint8Array {
  const payload = Buffer.alloc(12);
  payload.writeUInt16BE(info.export, 0);
  payload.writeBigUInt64BE(BigInt(sizeBytes), 2);
  payload.writeUInt16BE(flags, 10);
  return encodeOptionReply(optionCode, optionReply.info, payload);
}

export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

export function encodeInfoBlockSize(optionCode: number, sizes: BlockSizes): Uint8Array {
  const payload = Buffer.alloc(14);
  payload.writeUInt16BE(info.blockSize, 0);
  payload.writeUInt32BE(sizes.minimum, 2);
  payload.writeUInt32BE(sizes.preferred, 6);
  payload.writeUInt32BE(sizes.maximum, 10);
  return encodeOptionReply(optionCode, optionReply.info, payload);
}

/** Name or description. */
export function encodeInfoText(optionCode: number, type: number, text: string): Uint8Array {
  const code = Buffer.alloc(2);
  code.writeUInt16BE(type);
  return encodeOptionReply(optionCode, optionReply.info, Buffer.concat([code, encodeText(text)]));
}

export function encodeMetaContext(optionCode: number, id: number, name: string): Uint8Array {
  const code = Buffer.alloc(4);
  code.writeUInt32BE(id);
  return encodeOptionReply(optionCode, optionReply.metaContext, Buffer.concat([code, Buffer.from(name)]));
}

/** The answer to EXPORT_NAME, which alone has no reply header. */
export function encodeExportNameReply(sizeBytes: number, flags: number, padding: boolean): Uint8Array {
  const bytes = Buffer.alloc(10 + (padding ? length.exportNamePadding : 0));
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

// Handshake, client to server

/** An option without data. */
export function encodeOptionRequest(optionCode: number): Uint8Array {
  const bytes = Buffer.alloc(length.optionHeader);
  bytes.writeBigUInt64BE(magic.option, 0);
  bytes.writeUInt32BE(optionCode, 8);
  return bytes;
}

export interface OptionHeader {
  readonly option: number;
  readonly dataLength: number;
}

/** @throws UnderstudyError Protocol: without the magic number, nothing that follows can be understood. */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== magic.option)
    throw new UnderstudyError('Protocol', 'an option without its magic number');
  return { option: view.getUint32(8), dataLength: view.getUint32(12) };
}

/** A string of the protocol: UTF-8 without NUL, at most 4096 bytes. */
export function decodeString(bytes: Uint8Array): string {
  if (bytes.length > length.maxString) {
    throw new UnderstudyError('Invalid', `a string of ${bytes.length} bytes: at most ${length.maxString} are allowed`);
  }
  if (bytes.includes(0)) throw new UnderstudyError('Invalid', 'a string that contains a NUL byte');
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new UnderstudyError('Invalid', 'a string that is not UTF-8', { cause });
  }
}

export interface InfoRequest {
  readonly name: string;
  /** Types of information that the client asked for. */
  readonly requests: readonly number[];
}

/** Data of GO and INFO. */
export function decodeInfoRequest(data: Uint8Array): InfoRequest {
  const reader = new OptionReader(data);
  const name = reader.string();
  const count = reader.uint16();
  const requests = Array.from({ length: reader.fits(count, 2) }, () => reader.uint16());
  reader.end();
  return { name, requests };
}

export interface MetaContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest {
  const reader = new OptionReader(data);
  const name = reader.string();
  const count = reader.uint32();
  const queries = Array.from({ length: reader.fits(count, 4) }, () => reader.string());
  reader.end();
  return { name, queries };
}

/** Reads the data of one option front to back and refuses what does not fit into it. */
class OptionReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  /** A string behind its length. */
  string(): string {
    const size = this.uint32();
    const start = this.#advance(size);
    return decodeString(this.#bytes.subarray(start, start + size));
  }

  /** The count itself, if so many items of at least that size can follow: checked before anything is made of them. */
  fits(count: number, itemBytes: number): number {
    if (count * itemBytes > this.#bytes.length - this.#position) throw tooShort();
    return count;
  }

  end(): void {
    if (this.#position !== this.#bytes.length) throw new UnderstudyError('Invalid', 'an option with trailing data');
  }

  #advance(size: number): number {
    const start = this.#position;
    if (size > this.#bytes.length - start) throw tooShort();
    this.#position = start + size;
    return start;
  }
}

function tooShort(): UnderstudyError {
  return new UnderstudyError('Invalid', 'an option whose data is shorter than the lengths in it say');
}

// Transmission, server to client. The hot ones write into a buffer of the caller's.

/** Identifies a request towards its client; opaque, 64 bits in two halves because a bigint for each would cost more. */
export interface Cookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

export function writeSimpleReply(view: DataView, at: number, cookie: Cookie, error: number): void {
  view.setUint32(at, magic.simpleReply);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookie.cookieHigh);
  view.setUint32(at + 12, cookie.cookieLow);
}

export interface ChunkHeader {
  readonly type: number;
  readonly payloadBytes: number;
  /** The last chunk of its reply. */
  readonly done: boolean;
}

export function writeChunkHeader(view: DataView, at: number, cookie: Cookie, chunk: ChunkHeader): void {
  view.setUint32(at, magic.structuredReply);
  view.setUint16(at + 4, chunk.done ? replyFlagDone : 0);
  view.setUint16(at + 6, chunk.type);
  view.setUint32(at + 8, cookie.cookieHigh);
  view.setUint32(at + 12, cookie.cookieLow);
  view.setUint32(at + 16, chunk.payloadBytes);
}

/** Header and offset of a data chunk; the data follows. */
export const dataChunkOverhead = length.chunkHeader + 8;

export function writeDataChunk(
  view: DataView,
  at: number,
  cookie: Cookie,
  chunk: { offset: number; dataBytes: number; done: boolean },
): void {
  const { done } = chunk;
  writeChunkHeader(view, at, cookie, { type: chunkType.offsetData, payloadBytes: 8 + chunk.dataBytes, done });
  writeOffset(view, at + length.chunkHeader, chunk.offset);
}

export const holeChunkBytes = length.chunkHeader + 12;

export function writeHoleChunk(
  view: DataView,
  at: number,
  cookie: Cookie,
  chunk: { offset: number; holeBytes: number; done: boolean },
): void {
  writeChunkHeader(view, at, cookie, { type: chunkType.offsetHole, payloadBytes: 12, done: chunk.done });
  writeOffset(view, at + length.chunkHeader, chunk.offset);
  view.setUint32(at + length.chunkHeader + 8, chunk.holeBytes);
}

/** A chunk that ends its reply with an error and a message for people. */
export function encodeErrorChunk(cookie: Cookie, error: number, message: string): Uint8Array {
  const text = encodeText(message);
  const bytes = Buffer.alloc(length.chunkHeader + 6 + text.length);
  const view = viewOf(bytes);
  writeChunkHeader(view, 0, cookie, { type: chunkType.error, payloadBytes: 6 + text.length, done: true });
  view.setUint32(length.chunkHeader, error);
  view.setUint16(length.chunkHeader + 4, text.length);
  bytes.set(text, length.chunkHeader + 6);
  return bytes;
}

export function encodeBlockStatusChunk(
  cookie: Cookie,
  contextId: number,
  extents: readonly ContextExtent[],
  done: boolean,
): Uint8Array {
  const payloadBytes = 4 + 8 * extents.length;
  const bytes = Buffer.allocUnsafe(length.chunkHeader + payloadBytes);
  const view = viewOf(bytes);
  writeChunkHeader(view, 0, cookie, { type: chunkType.blockStatus, payloadBytes, done });
  view.setUint32(length.chunkHeader, contextId);
  let at = length.chunkHeader + 4;
  for (const extent of extents) {
    view.setUint32(at, extent.length);
    view.setUint32(at + 4, extent.flags);
    at += 8;
  }
  return bytes;
}

function writeOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 0x1_0000_0000));
  view.setUint32(at + 4, offset % 0x1_0000_0000);
}

/** UTF-8, cut to the length of a string of the protocol at a boundary between characters. */
function encodeText(text: string): Uint8Array {
  const bytes = new Uint8Array(length.maxString);
  return bytes.subarray(0, new TextEncoder().encodeInto(text.replaceAll('\0', ' '), bytes).written);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
