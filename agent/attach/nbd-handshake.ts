/**
 * The handshake of an NBD client that hands its connection to the kernel: fixed newstyle, one GO. Pure.
 *
 * The kernel's driver knows simple replies only and one export per connection, so nothing else is negotiated; after the
 * last answer to GO the server sends nothing until it is asked, and not a byte may be left over.
 *
 * Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */
import { UnderstudyError } from '../../common/errors.ts';
import { ByteQueue } from '../nbd/byte-queue.ts';
import { viewOf } from '../nbd/codec.ts';
import { handshakeFlag, info, length, magic, option, optionReply } from '../nbd/constants.ts';

/** What the server says of its export. */
export interface ServedExport {
  readonly sizeBytes: number;
  /** Transmission flags. */
  readonly flags: number;
  /** What requests must be aligned to, if the server says. */
  readonly minimumBlockBytes: number | undefined;
}

/** Answers longer than this are not what was asked for. */
const maxReplyBytes = 64 * 1024;
const errorReply = 0x80000000;

export class NbdClientHandshake {
  readonly #exportName: string;
  readonly #queue = new ByteQueue();
  #greeted = false;
  #header: { type: number; dataBytes: number } | undefined;
  #facts: { sizeBytes: number; flags: number } | undefined;
  #minimumBlockBytes: number | undefined;
  #done: ServedExport | undefined;

  constructor(exportName: string) {
    this.#exportName = exportName;
  }

  /** What the server has said, once it has said all. */
  get served(): ServedExport | undefined {
    return this.#done;
  }

  /**
   * Takes what came in, and answers with what is to be sent.
   * @throws UnderstudyError Protocol; NotReady with the server's words when it refuses the export
   */
  received(bytes: Uint8Array): Uint8Array[] {
    this.#queue.push(bytes);
    const replies: Uint8Array[] = [];
    while (this.#done === undefined) {
      const reply = this.#greeted ? this.#option() : this.#greeting();
      if (reply === undefined) break;
      replies.push(reply);
    }
    if (this.#done && this.#queue.length > 0) throw broken('data behind the end of the handshake');
    return replies.filter((reply) => reply.length > 0);
  }

  /** Undefined while more is needed; empty if there is nothing to say. */
  #greeting(): Uint8Array | undefined {
    const greeting = this.#queue.take(length.greeting);
    if (greeting === undefined) return undefined;
    const view = viewOf(greeting);
    if (view.getBigUint64(0) !== magic.greeting || view.getBigUint64(8) !== magic.option) {
      throw broken('a greeting that is not that of an NBD server of the fixed newstyle');
    }
    this.#greeted = true;
    return encodeStart(this.#exportName);
  }

  #option(): Uint8Array | undefined {
    this.#header ??= this.#optionHeader();
    if (this.#header === undefined) return undefined;
    const { type, dataBytes } = this.#header;
    const data = this.#queue.take(dataBytes);
    if (data === undefined) return undefined;
    this.#header = undefined;
    if (type >= errorReply) throw refused(this.#exportName, data);
    if (type === optionReply.info) this.#learn(data);
    else if (type === optionReply.ack) this.#finish();
    else throw broken(`an answer of type ${type} to GO`);
    return new Uint8Array(0);
  }

  #optionHeader(): { type: number; dataBytes: number } | undefined {
    const bytes = this.#queue.take(length.optionReplyHeader);
    if (bytes === undefined) return undefined;
    const view = viewOf(bytes);
    const dataBytes = view.getUint32(16);
    const isAnswer = view.getBigUint64(0) === magic.optionReply && view.getUint32(8) === option.go;
    if (!isAnswer || dataBytes > maxReplyBytes) throw broken('something that is no answer to GO');
    return { type: view.getUint32(12), dataBytes };
  }

  #learn(data: Uint8Array): void {
    const view = viewOf(data);
    const type = data.length >= 2 ? view.getUint16(0) : undefined;
    if (type === info.export) {
      if (data.length !== 12) throw broken(`${data.length} bytes about the export`);
      this.#facts = { sizeBytes: Number(view.getBigUint64(2)), flags: view.getUint16(10) };
    } else if (type === info.blockSize) {
      if (data.length !== 14) throw broken(`${data.length} bytes about block sizes`);
      this.#minimumBlockBytes = view.getUint32(2);
    }
  }

  #finish(): void {
    if (this.#facts === undefined) throw broken('the end of the handshake without the size of the export');
    this.#done = { ...this.#facts, minimumBlockBytes: this.#minimumBlockBytes };
  }
}

/** The client's flags, and GO, which asks for block sizes: a server may refuse clients that do not. */
function encodeStart(exportName: string): Uint8Array {
  const name = new TextEncoder().encode(exportName);
  const dataBytes = 4 + name.length + 2 + 2;
  const bytes = new Uint8Array(length.clientFlags + length.optionHeader + dataBytes);
  const view = viewOf(bytes);
  view.setUint32(0, handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes);
  view.setBigUint64(4, magic.option);
  view.setUint32(12, option.go);
  view.setUint32(16, dataBytes);
  view.setUint32(20, name.length);
  bytes.set(name, 24);
  view.setUint16(24 + name.length, 1);
  view.setUint16(26 + name.length, info.blockSize);
  return bytes;
}

function refused(exportName: string, data: Uint8Array): UnderstudyError {
  const words = new TextDecoder().decode(data) || 'no reason given';
  return new UnderstudyError('NotReady', `the server refuses export "${exportName}": ${words}`);
}

function broken(what: string): UnderstudyError {
  return new UnderstudyError('Protocol', `the NBD server sent ${what}`);
}
