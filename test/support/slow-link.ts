import net from 'node:net';

export type Direction = 'towards' | 'back';

/**
 * A TCP relay in front of a port, which can be slow, take its time, and be cut: with its connections, or silently and in
 * one direction only. What is on its way then is kept, and arrives when the link is mended, however late; nobody can connect
 * meanwhile, since that takes both directions.
 */
export class SlowLink {
  readonly #server: net.Server;
  readonly #pairs = new Set<net.Socket>();
  bytesPerSecond = Number.POSITIVE_INFINITY;
  /** How long everything is under way, in each direction. */
  delayMs = 0;
  isCut = false;
  readonly #near = new Set<net.Socket>();
  readonly #far = new Set<net.Socket>();
  readonly #waiting: net.Socket[] = [];
  readonly #held = new Set<Direction>();
  /** Sent towards the port so far. */
  bytes = 0;

  private constructor(target: { host: string; port: number }) {
    this.#server = net.createServer((near) => {
      if (this.isCut) return void near.destroy();
      if (this.#held.size > 0) return this.#leaveWaiting(near);
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
      this.#near.add(near);
      this.#far.add(far);
      near.on('close', () => this.#near.delete(near));
      far.on('close', () => this.#far.delete(far));
      far.on('data', (bytes) => this.#deliver(near, bytes as Buffer));
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
    for (const socket of [...this.#pairs, ...this.#waiting]) socket.destroy();
  }

  /** Nothing passes in this direction any more, and nobody is told. */
  hold(direction: Direction): void {
    this.#held.add(direction);
    for (const socket of this.#sendersIn(direction)) socket.pause();
  }

  /** Takes away every cut. */
  mend(): void {
    this.isCut = false;
    this.#held.clear();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    for (const socket of this.#pairs) socket.resume();
  }

  #leaveWaiting(near: net.Socket): void {
    near.on('error', () => undefined);
    near.pause();
    this.#waiting.push(near);
  }

  #sendersIn(direction: Direction): ReadonlySet<net.Socket> {
    return direction === 'towards' ? this.#near : this.#far;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** In order: of timers with the same delay, the one that was set first fires first. */
  #deliver(to: net.Socket, bytes: Buffer): void {
    if (this.delayMs === 0) to.write(bytes);
    else setTimeout(() => to.write(bytes), this.delayMs);
  }

  #pass(near: net.Socket, far: net.Socket, bytes: Buffer): void {
    this.bytes += bytes.length;
    this.#deliver(far, bytes);
    const waitMs = (bytes.length * 1000) / this.bytesPerSecond;
    if (waitMs < 1) return;
    near.pause();
    setTimeout(() => this.#held.has('towards') || near.resume(), waitMs);
  }
}
