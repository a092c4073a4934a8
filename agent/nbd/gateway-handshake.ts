import type { Duplex } from 'node:stream';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import { ByteReader } from './byte-reader.ts';
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  decodeString,
  encodeGreeting,
  encodeOptionError,
  encodeOptionReply,
  encodeOptionRequest,
  encodeServer,
  viewOf,
} from './codec.ts';
import { handshakeFlag, length, option, optionReply } from './constants.ts';
import { optionErrorOf } from './errno.ts';
import type { NbdClient } from './exports.ts';

/** What the option phase of a client of the gateway depends on. */
export interface GatewayPorts {
  /** Connects to the server of a volume. @throws UnderstudyError NotFound */
  connect(volume: string): Promise<Duplex>;
  /** The volume of an export that this client may use. @throws UnderstudyError */
  volumeOf(exportName: string, client: NbdClient): string;
  /** The exports that this client may be told of. */
  list(client: NbdClient): Promise<string[]>;
  /** Makes TLS of the connection. Without it there is none, and none is needed. */
  readonly startTls?: (() => Promise<{ readonly stream: Duplex; readonly client: NbdClient }>) | undefined;
  readonly maxOptions: number;
  readonly maxOptionBytes: number;
}

/** A client and the server of the volume that it has chosen: from here on their bytes go back and forth as they are. */
export interface Joined {
  readonly client: Duplex;
  readonly server: Duplex;
}

/** The largest single reply of a volume's server: a description or a context's name, with room. */
const maxReplyBytes = 64 * 1024;

/**
 * The option haggling of a client that has not said yet which volume it wants. What concerns no export is answered here;
 * each option that names one is passed to the server of its volume, once this client is known to be allowed to use it, and
 * so are the replies. It ends when an export has been chosen.
 *
 * Every option is looked at, up to the last one: a client cannot name one export here and use another.
 */
export class GatewayHandshake {
  readonly #ports: GatewayPorts;
  #stream: Duplex;
  #reader: ByteReader;
  #client: NbdClient = {};
  #clientFlags = 0;
  #secure = false;
  #structuredReplies = false;
  #server: { readonly volume: string; readonly stream: Duplex; readonly reader: ByteReader } | undefined;

  constructor(stream: Duplex, ports: GatewayPorts) {
    this.#stream = stream;
    this.#reader = new ByteReader(stream);
    this.#ports = ports;
  }

  /**
   * Resolves when client and server understand each other, or with undefined when the client has taken its leave.
   * @throws UnderstudyError Protocol, Closed; the connection is of no use then
   */
  async run(): Promise<Joined | undefined> {
    try {
      this.#stream.write(encodeGreeting());
      this.#clientFlags = viewOf(await this.#reader.read(length.clientFlags)).getUint32(0);
      if ((this.#clientFlags & handshakeFlag.fixedNewstyle) === 0) {
        throw new UnderstudyError('Protocol', 'a client without fixed newstyle');
      }
      for (let count = 0; count < this.#ports.maxOptions; count += 1) {
        const outcome = await this.#option();
        if (outcome === 'left') break;
        if (outcome === 'chosen') return this.#join();
      }
      return undefined;
    } finally {
      this.#server?.stream.destroy();
    }
  }

  #join(): Joined {
    const server = this.#server;
    if (!server) throw new UnderstudyError('Internal', 'an export was chosen without a server');
    this.#server = undefined;
    this.#reader.release();
    server.reader.release();
    return { client: this.#stream, server: server.stream };
  }

  async #option(): Promise<'goes on' | 'chosen' | 'left'> {
    const header = await this.#reader.read(length.optionHeader);
    const { option: code, dataLength } = decodeOptionHeader(header);
    if (dataLength > this.#ports.maxOptionBytes) {
      throw new UnderstudyError('Protocol', `an option with ${dataLength} bytes of data`);
    }
    const data = await this.#reader.read(dataLength);
    if (code === option.abort) {
      this.#stream.write(encodeOptionReply(code, optionReply.ack));
      return 'left';
    }
    if (this.#ports.startTls && !this.#secure && code !== option.startTls) {
      if (code === option.exportName) throw new UnderstudyError('Protocol', 'EXPORT_NAME without TLS');
      return this.#fail(code, optionReply.errorTlsRequired, 'this server requires TLS');
    }
    switch (code) {
      case option.startTls:
        return this.#startTls(data);
      case option.structuredReply:
        return this.#structuredReply(data);
      case option.list:
        return this.#list(data);
      case option.exportName:
      case option.info:
      case option.go:
      case option.listMetaContext:
      case option.setMetaContext:
        return this.#pass(code, header, data);
      default:
        return this.#fail(code, optionReply.errorUnsupported, 'unknown option');
    }
  }

  async #startTls(data: Buffer): Promise<'goes on'> {
    const { startTls } = this.#ports;
    if (!startTls) return this.#fail(option.startTls, optionReply.errorPolicy, 'TLS is not set up on this server');
    if (this.#secure || data.length > 0) return this.#fail(option.startTls, optionReply.errorInvalid, 'not now');
    // Bytes behind the option came in the clear and must not be taken for the client's words inside TLS.
    if (this.#reader.bufferedBytes > 0) throw new UnderstudyError('Protocol', 'data between STARTTLS and its answer');
    this.#stream.write(encodeOptionReply(option.startTls, optionReply.ack));
    this.#reader.release();
    const { stream, client } = await startTls();
    this.#stream = stream;
    this.#reader = new ByteReader(stream);
    this.#client = client;
    this.#secure = true;
    return 'goes on';
  }

  async #structuredReply(data: Buffer): Promise<'goes on'> {
    if (data.length > 0) return this.#fail(option.structuredReply, optionReply.errorInvalid, 'this option has no data');
    this.#structuredReplies = true;
    if (this.#server) await this.#negotiateStructured(this.#server.stream, this.#server.reader);
    this.#stream.write(encodeOptionReply(option.structuredReply, optionReply.ack));
    return 'goes on';
  }

  async #list(data: Buffer): Promise<'goes on'> {
    if (data.length > 0) return this.#fail(option.list, optionReply.errorInvalid, 'this option has no data');
    const names = await this.#ports.list(this.#client);
    this.#stream.cork();
    for (const name of names) this.#stream.write(encodeServer(option.list, name));
    this.#stream.write(encodeOptionReply(option.list, optionReply.ack));
    this.#stream.uncork();
    return 'goes on';
  }

  /** An option that names an export: its volume's server answers it. */
  async #pass(code: number, header: Buffer, data: Buffer): Promise<'goes on' | 'chosen'> {
    let server: { readonly stream: Duplex; readonly reader: ByteReader };
    try {
      server = await this.#serverOf(this.#ports.volumeOf(exportNameOf(code, data), this.#client));
    } catch (error) {
      if (code === option.exportName) throw error;
      return this.#fail(code, optionErrorOf(error), errorMessage(error));
    }
    server.stream.write(Buffer.concat([header, data]));
    // The one option without a header on its reply: the export, or the end of the connection.
    if (code === option.exportName) return 'chosen';
    for (;;) {
      const { type, bytes } = await readReply(server.reader);
      this.#stream.write(bytes);
      if (type === optionReply.ack) return code === option.go ? 'chosen' : 'goes on';
      if (type >= optionReply.errorUnsupported) return 'goes on';
    }
  }

  async #serverOf(volume: string): Promise<{ readonly stream: Duplex; readonly reader: ByteReader }> {
    if (this.#server?.volume === volume) return this.#server;
    this.#server?.stream.destroy();
    this.#server = undefined;
    const stream = await this.#ports.connect(volume);
    const reader = new ByteReader(stream);
    this.#server = { volume, stream, reader };
    await reader.read(length.greeting);
    const flags = Buffer.alloc(length.clientFlags);
    flags.writeUInt32BE(this.#clientFlags);
    stream.write(flags);
    if (this.#structuredReplies) await this.#negotiateStructured(stream, reader);
    return this.#server;
  }

  async #negotiateStructured(stream: Duplex, reader: ByteReader): Promise<void> {
    stream.write(encodeOptionRequest(option.structuredReply));
    const { type } = await readReply(reader);
    if (type !== optionReply.ack) throw new UnderstudyError('Internal', 'a volume without structured replies');
  }

  #fail(code: number, type: number, message: string): 'goes on' {
    this.#stream.write(encodeOptionError(code, type, message));
    return 'goes on';
  }
}

/** @throws UnderstudyError Invalid */
function exportNameOf(code: number, data: Buffer): string {
  if (code === option.exportName) return decodeString(data);
  if (code === option.info || code === option.go) return decodeInfoRequest(data).name;
  return decodeMetaContextRequest(data).name;
}

/** One reply of a volume's server to an option, as a whole and its payload. */
export async function readReply(reader: ByteReader): Promise<{ type: number; payload: Buffer; bytes: Buffer }> {
  const header = await reader.read(length.optionReplyHeader);
  const payloadLength = header.readUInt32BE(16);
  if (payloadLength > maxReplyBytes) throw new UnderstudyError('Internal', `a reply of ${payloadLength} bytes`);
  const payload = await reader.read(payloadLength);
  return { type: header.readUInt32BE(12), payload, bytes: Buffer.concat([header, payload]) };
}
