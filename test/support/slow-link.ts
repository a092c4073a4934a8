import net from 'node:net';

/** A TCP relay in front of a port, whose speed can be limited, and which can be cut. */
export class SlowLink {
  readonly #server: net.Server;
  readonly #pairs = new Set<net.Socket>();
  bytesPerSecond = Number.POSITIVE_INFINITY;
  isCut = false;
  /** Sent towards the port so far. */
  bytes = 0;

  private constructor(target: { host: string; port: number }) {
    this.#server = net.createServer((near) => {
      if (this.isCut) return void near.destroy();
      const far = net.connect(target);
      for (const socket of [near, far]) {
        this.#pairs.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#pairs.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      far.on('data', (bytes) => near.write(bytes));
      near.on('data', (bytes) => this.#pass(near, far, bytes as Buffer));
    });
  }

  static async start(target: string): Promise<SlowLink> {
    const [host = '', port = ''] = target.split(':');
    const link = new SlowLink({ host, port: Number(port) });
    await new Promise<void>((resolve) => link.#server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  get address(): string {
    const address = this.#server.address();
    return typeof address === 'object' && address ? `127.0.0.1:${address.port}` : '';
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.#pairs) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #pass(near: net.Socket, far: net.Socket, bytes: Buffer): void {
    this.bytes += bytes.length;
    far.write(bytes);
    const waitMs = (bytes.length * 1000) / this.bytesPerSecond;
    if (waitMs < 1) return;
    near.pause();
    setTimeout(() => near.resume(), waitMs);
  }
}
