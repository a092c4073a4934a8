/**
 * Messages of generic netlink, as bytes. Pure.
 *
 * All numbers are in the byte order of the machine. A message is a netlink header (total length u32, type u16, flags
 * u16, sequence u32, port u32) and, for generic netlink, a header of its own (command u8, version u8, two unused bytes)
 * with attributes behind it (length u16 with its header, type u16, value, padded to 4 bytes).
 *
 * Source: netlink(7); the kernel's Documentation/userspace-api/netlink/intro.rst and include/uapi/linux/netlink.h.
 */
import { UnderstudyError } from '../../common/errors.ts';

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const headerBytes = 16;
const genericHeaderBytes = 4;
const attributeHeaderBytes = 4;
/** The two highest bits of an attribute's type are flags. */
const nestedFlag = 0x8000;
const typeMask = 0x3fff;
const maxAttributeBytes = 0xffff;

export const requestFlag = { request: 0x01, acknowledge: 0x04 } as const;
const errorType = 2;

/** An attribute to be sent: a 32 or 64 bit number, a string (sent with its NUL), or attributes within one. */
export type Attribute =
  | { readonly type: number; readonly u32: number }
  | { readonly type: number; readonly u64: bigint }
  | { readonly type: number; readonly text: string }
  | { readonly type: number; readonly nested: readonly Attribute[] };

/** The values of attributes by their types; of two of one type, the last. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

export interface GenericRequest {
  /** Number of the family, which the kernel gives out. */
  readonly family: number;
  readonly command: number;
  readonly version: number;
  readonly sequence: number;
  readonly attributes: readonly Attribute[];
}

/** A request that the kernel answers with an acknowledgement, or an error, in any case. */
export function encodeRequest(request: GenericRequest): Uint8Array {
  const attributes = encodeAttributes(request.attributes);
  const bytes = new Uint8Array(headerBytes + genericHeaderBytes + attributes.length);
  const view = viewOf(bytes);
  view.setUint32(0, bytes.length, littleEndian);
  view.setUint16(4, request.family, littleEndian);
  view.setUint16(6, requestFlag.request | requestFlag.acknowledge, littleEndian);
  view.setUint32(8, request.sequence, littleEndian);
  view.setUint8(headerBytes, request.command);
  view.setUint8(headerBytes + 1, request.version);
  bytes.set(attributes, headerBytes + genericHeaderBytes);
  return bytes;
}

function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const encoded = attributes.map(encodeAttribute);
  const bytes = new Uint8Array(encoded.reduce((sum, { length }) => sum + padded(length), 0));
  let at = 0;
  for (const attribute of encoded) {
    bytes.set(attribute, at);
    at += padded(attribute.length);
  }
  return bytes;
}

/** @throws UnderstudyError Invalid when its value is too long for an attribute. */
function encodeAttribute(attribute: Attribute): Uint8Array {
  const value = encodeValue(attribute);
  const length = attributeHeaderBytes + value.length;
  if (length > maxAttributeBytes) {
    throw new UnderstudyError('Invalid', `netlink attribute ${attribute.type} of ${value.length} bytes is too long`);
  }
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  view.setUint16(0, length, littleEndian);
  view.setUint16(2, 'nested' in attribute ? attribute.type | nestedFlag : attribute.type, littleEndian);
  bytes.set(value, attributeHeaderBytes);
  return bytes;
}

function encodeValue(attribute: Attribute): Uint8Array {
  if ('nested' in attribute) return encodeAttributes(attribute.nested);
  if ('text' in attribute) return new TextEncoder().encode(`${attribute.text}\0`);
  if ('u32' in attribute) {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, attribute.u32, littleEndian);
    return bytes;
  }
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, attribute.u64, littleEndian);
  return bytes;
}

/** What the kernel sends. */
export type NetlinkMessage =
  /** The end of a request's answers: 0, or the errno for which it was refused. */
  | { readonly kind: 'result'; readonly sequence: number; readonly errno: number }
  | {
      readonly kind: 'message';
      readonly sequence: number;
      readonly family: number;
      readonly command: number;
      readonly attributes: Attributes;
    };

/**
 * The messages in one received datagram.
 * @throws UnderstudyError Protocol when a length contradicts another.
 */
export function decodeMessages(datagram: Uint8Array): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let rest = datagram; rest.length > 0; ) {
    const length = rest.length >= headerBytes ? viewOf(rest).getUint32(0, littleEndian) : 0;
    if (length < headerBytes || length > rest.length) throw malformed('message', length, rest.length);
    const message = decodeMessage(rest.subarray(0, length));
    if (message) messages.push(message);
    rest = rest.subarray(padded(length));
  }
  return messages;
}

/** Undefined for what carries no generic message: no operation, the end of a list. */
function decodeMessage(bytes: Uint8Array): NetlinkMessage | undefined {
  const view = viewOf(bytes);
  const family = view.getUint16(4, littleEndian);
  const sequence = view.getUint32(8, littleEndian);
  if (family === errorType) {
    if (bytes.length < headerBytes + 4) throw malformed('result', bytes.length, headerBytes + 4);
    return { kind: 'result', sequence, errno: Math.abs(view.getInt32(headerBytes, littleEndian)) };
  }
  // Types below 16 are for netlink itself.
  if (family < 16) return undefined;
  const bodyAt = headerBytes + genericHeaderBytes;
  if (bytes.length < bodyAt) throw malformed('generic header', bytes.length, bodyAt);
  const attributes = decodeAttributes(bytes.subarray(bodyAt));
  return { kind: 'message', sequence, family, command: view.getUint8(headerBytes), attributes };
}

/** @throws UnderstudyError Protocol */
export function decodeAttributes(bytes: Uint8Array): Attributes {
  const attributes = new Map<number, Uint8Array>();
  for (let rest = bytes; rest.length > 0; ) {
    const length = rest.length >= attributeHeaderBytes ? viewOf(rest).getUint16(0, littleEndian) : 0;
    if (length < attributeHeaderBytes || length > rest.length) throw malformed('attribute', length, rest.length);
    const type = viewOf(rest).getUint16(2, littleEndian) & typeMask;
    attributes.set(type, rest.subarray(attributeHeaderBytes, length));
    rest = rest.subarray(padded(length));
  }
  return attributes;
}

/** Undefined if there is no such attribute. @throws UnderstudyError Protocol when it is too short for its number. */
export function uint16Of(attributes: Attributes, type: number): number | undefined {
  return numberView(attributes, type, 2)?.getUint16(0, littleEndian);
}

export function uint32Of(attributes: Attributes, type: number): number | undefined {
  return numberView(attributes, type, 4)?.getUint32(0, littleEndian);
}

/** A string without its NUL. */
export function textOf(attributes: Attributes, type: number): string | undefined {
  const value = attributes.get(type);
  return value && new TextDecoder().decode(value).replace(/\0.*$/s, '');
}

function numberView(attributes: Attributes, type: number, bytes: number): DataView | undefined {
  const value = attributes.get(type);
  if (value && value.length < bytes) throw malformed(`attribute ${type}`, value.length, bytes);
  return value && viewOf(value);
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function malformed(what: string, length: number, available: number): UnderstudyError {
  return new UnderstudyError('Protocol', `a netlink ${what} of ${length} bytes where there are ${available}`);
}
