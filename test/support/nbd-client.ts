import { ByteChannel } from './byte-channel.ts';
import {
  clientFlags,
  goData,
  metaContextData,
  optionMessage,
  type RequestFields,
  requestMessage,
} from './nbd-messages.ts';

export interface ClientOptions {
  readonly exportName?: string;
  /** Negotiate structured replies (the default). */
  readonly structured?: boolean;
  /** Metadata contexts to select, by exact names. */
  readonly contexts?: readonly string[];
  /** The greeting has been exchanged already, before TLS. */
  readonly greeted?: boolean;
}

/** A chunk of a structured reply, or the data of a simple one. */
export interface ReplyChunk {
  readonly type: number;
  readonly payload: Buffer;
}

export interface Reply {
  /** 0, or the errno of the reply. */
  readonly error: number;
  readonly message: string;
  readonly chunks: readonly ReplyChunk[];
}

export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

interface Pending {
  readonly request: RequestFields;
  readonly chunks: ReplyChunk[];
  error: number;
  message: string;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

/** The errno of a reply that was not a success. */
export class NbdError extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(`errno ${errno}: ${message}`);
    this.errno = errno;
  }
}

/** An option that the server answered with an error. */
export class NbdOptionError extends Error {
  readonly type: number;

  constructor(type: number, message: string) {
    super(`option refused with 0x${type.toString(16)}: ${message}`);
    this.type = type;
  }
}

/** A small NBD client for tests. Any number of requests may be under way. */
export class NbdTestClient {
  readonly channel: ByteChannel;
  readonly #pending = new Map<bigint, Pending>();
  #contexts = new Map<number, string>();
  #nextCookie = 1n;
  size = 0;
  flags = 0;
  blockSizes: { minimum: number; preferred: number; maximum: number } | undefined;

  private constructor(channel: ByteChannel) {
    this.channel = channel;
  }

  static async connect(path: string, options: ClientOptions = {}): Promise<NbdTestClient> {
    return NbdTestClient.over(await ByteChannel.connect(path), options);
  }

  /** Negotiates over a channel that is connected already. */
  static async over(channel: ByteChannel, options: ClientOptions = {}): Promise<NbdTestClient> {
    const client = new NbdTestClient(channel);
    try {
      await client.#negotiate(options);
    } catch (error) {
      channel.close();
      throw error;
    }
    void client.#receiveReplies();
    return client;
  }

  async read(offset: number, length: number, flags = 0): Promise<Buffer> {
    const { chunks } = await this.#successful({ type: 0, offset, length, flags });
    const data = Buffer.alloc(length, 0xee);
    for (const { type, payload } of chunks) {
      if (type === -1) return payload;
      const at = Number(payload.readBigUInt64BE(0)) - offset;
      if (type === 1) payload.copy(data, at, 8);
      if (type === 2) data.fill(0, at, at + payload.readUInt32BE(8));
    }
    return data;
  }

  async write(offset: number, data: Uint8Array, flags = 0): Promise<void> {
    await this.#successful({ type: 1, offset, data, flags });
  }

  async flush(): Promise<void> {
    await this.#successful({ type: 3 });
  }

  async trim(offset: number, length: number, flags = 0): Promise<void> {
    await this.#successful({ type: 4, offset, length, flags });
  }

  async writeZeroes(offset: number, length: number, flags = 0): Promise<void> {
    await this.#successful({ type: 6, offset, length, flags });
  }

  /** The extents of each selected context, by its name. */
  async blockStatus(offset: number, length: number, flags = 0): Promise<Map<string, StatusExtent[]>> {
    const { chunks } = await this.#successful({ type: 7, offset, length, flags });
    return new Map(
      chunks
        .filter(({ type }) => type === 5)
        .map(({ payload }) => {
          const extents = Array.from({ length: (payload.length - 4) / 8 }, (_, index) => ({
            length: payload.readUInt32BE(4 + 8 * index),
            flags: payload.readUInt32BE(8 + 8 * index),
          }));
          return [this.#contexts.get(payload.readUInt32BE(0)) ?? 'unknown', extents] as const;
        }),
    );
  }

  /** Sends any request and waits for its reply, whatever that is. */
  request(fields: RequestFields): Promise<Reply> {
    const cookie = this.#nextCookie++;
    return new Promise((resolve, reject) => {
      this.#pending.set(cookie, { request: fields, chunks: [], error: 0, message: '', resolve, reject });
      this.channel.send(requestMessage({ ...fields, cookie }));
    });
  }

  /** Ends the connection in order, and waits for the server to close it. */
  async disconnect(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.channel.isClosed) resolve();
      else this.channel.socket.once('close', () => resolve());
    });
    this.channel.send(requestMessage({ type: 2 }));
    await closed;
  }

  /** Drops the connection. */
  close(): void {
    this.channel.close();
  }

  async #successful(fields: RequestFields): Promise<Reply> {
    const reply = await this.request(fields);
    if (reply.error !== 0) throw new NbdError(reply.error, reply.message);
    return reply;
  }

  async #negotiate({
    exportName = '',
    structured = true,
    contexts = [],
    greeted = false,
  }: ClientOptions): Promise<void> {
    if (!greeted) {
      await this.channel.receive(18);
      this.channel.send(clientFlags());
    }
    if (structured) await this.#option(8);
    if (contexts.length > 0) {
      const replies = await this.#option(10, metaContextData(exportName, contexts));
      this.#contexts = new Map(replies.map((data) => [data.readUInt32BE(0), data.subarray(4).toString()]));
    }
    for (const data of await this.#option(7, goData(exportName, [3]))) this.#learn(data);
  }

  #learn(info: Buffer): void {
    const type = info.readUInt16BE(0);
    if (type === 0) {
      this.size = Number(info.readBigUInt64BE(2));
      this.flags = info.readUInt16BE(10);
    }
    if (type === 3) {
      const [minimum, preferred, maximum] = [2, 6, 10].map((at) => info.readUInt32BE(at)) as [number, number, number];
      this.blockSizes = { minimum, preferred, maximum };
    }
  }

  /** Sends an option and collects the data of its replies up to the final one. */
  async #option(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<Buffer[]> {
    this.channel.send(optionMessage(option, data));
    const replies: Buffer[] = [];
    for (;;) {
      const header = await this.channel.receive(20);
      const type = header.readUInt32BE(12);
      const payload = await this.channel.receive(header.readUInt32BE(16));
      if (type >= 0x80000000) throw new NbdOptionError(type, payload.toString());
      if (type === 1) return replies;
      replies.push(payload);
    }
  }

  async #receiveReplies(): Promise<void> {
    try {
      for (;;) await this.#receiveReply();
    } catch (error) {
      for (const { reject } of this.#pending.values())
        reject(error instanceof Error ? error : new Error(String(error)));
      this.#pending.clear();
    }
  }

  async #receiveReply(): Promise<void> {
    const start = await this.channel.receive(16);
    const cookie = start.readBigUInt64BE(8);
    const pending = this.#pending.get(cookie);
    if (!pending) throw new Error(`a reply to no request: ${cookie}`);
    if (start.readUInt32BE(0) === 0x67446698) {
      pending.error = start.readUInt32BE(4);
      const hasData = pending.request.type === 0 && pending.error === 0;
      if (hasData) pending.chunks.push({ type: -1, payload: await this.channel.receive(pending.request.length ?? 0) });
      this.#finish(cookie, pending);
      return;
    }
    if (start.readUInt32BE(0) !== 0x668e33ef) throw new Error(`no reply: ${start.toString('hex')}`);
    const payload = await this.channel.receive((await this.channel.receive(4)).readUInt32BE(0));
    const type = start.readUInt16BE(6);
    pending.chunks.push({ type, payload });
    if (type & 0x8000) {
      pending.error = payload.readUInt32BE(0);
      pending.message = payload.subarray(6, 6 + payload.readUInt16BE(4)).toString();
    }
    if (start.readUInt16BE(4) & 1) this.#finish(cookie, pending);
  }

  #finish(cookie: bigint, { chunks, error, message, resolve }: Pending): void {
    this.#pending.delete(cookie);
    resolve({ chunks, error, message });
  }
}
