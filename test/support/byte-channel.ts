import { connect, type Socket } from 'node:net';

/** A socket from which an exact number of bytes can be awaited. */
export class ByteChannel {
  readonly socket: Socket;
  #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** To a unix socket, or to a port of this machine. */
  static connect(to: string | number): Promise<ByteChannel> {
    return new Promise((resolve, reject) => {
      const socket = typeof to === 'string' ? connect(to) : connect(to, '127.0.0.1');
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new ByteChannel(socket));
      });
    });
  }

  get isClosed(): boolean {
    return this.#ended;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next `size` bytes. @throws when the peer has closed before. */
  async receive(size: number): Promise<Buffer> {
    while (this.#length < size) {
      if (this.#ended) throw new Error(`connection closed: ${this.#length} of ${size} bytes received`);
      await this.#more();
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = all.length > size ? [all.subarray(size)] : [];
    this.#length = all.length - size;
    return all.subarray(0, size);
  }

  /** Everything until the peer closes. */
  async receiveAll(): Promise<Buffer> {
    while (!this.#ended) await this.#more();
    return this.receive(this.#length);
  }

  close(): void {
    this.socket.destroy();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
