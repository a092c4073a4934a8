import net from 'node:net';
import { parseAddress } from '../../common/address.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { descriptorOf, stopReading } from '../store/socket-descriptor.ts';
import { duplicateDescriptor } from '../store/syscalls.ts';
import { decodeRequest, encodeRefusal, type LinkPurpose } from './mirror-preamble.ts';

const preambleTimeoutMs = 5_000;
const maxPending = 256;

/** Gives a connection to a volume's thread; `from` is the peer's address. What it throws is told to the peer. */
type HandOver = (volume: string, descriptor: number, from: string | undefined, purpose: LinkPurpose) => Promise<void>;

/**
 * The one port on which an agent takes mirror connections for all of its volumes. It reads which volume a connection is
 * for and hands its file descriptor to that volume's thread, which answers.
 */
export class MirrorListener {
  readonly #server: net.Server;
  readonly #handOver: HandOver;
  readonly #log: Log;
  readonly #pending = new Set<net.Socket>();

  private constructor(handOver: HandOver, log: Log) {
    this.#handOver = handOver;
    this.#log = log;
    this.#server = net.createServer((socket) => this.#accepted(socket));
  }

  static async listen(address: string, handOver: HandOver, log: Log): Promise<MirrorListener> {
    const listener = new MirrorListener(handOver, log);
    const { host, port } = parseAddress(address);
    await new Promise<void>((resolve, reject) => {
      listener.#server.once('error', (error) => {
        reject(new UnderstudyError('Unavailable', `cannot listen for mirrors on ${address}: ${errorMessage(error)}`));
      });
      listener.#server.listen({ host, port }, resolve);
    });
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async close(): Promise<void> {
    for (const socket of this.#pending) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accepted(socket: net.Socket): void {
    socket.on('error', () => undefined);
    if (this.#pending.size >= maxPending) return void socket.destroy();
    this.#pending.add(socket);
    socket.on('close', () => this.#pending.delete(socket));
    socket.setTimeout(preambleTimeoutMs, () => socket.destroy());
    let received: Buffer = Buffer.alloc(0);
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      try {
        const request = decodeRequest(received);
        if (request === undefined) return;
        socket.pause();
        void this.#give(socket, request.volume, request.purpose);
      } catch (error) {
        this.#log.warn(
          { peer: socket.remoteAddress, error: errorMessage(error) },
          'refused a connection to the mirror port',
        );
        socket.destroy();
      }
    });
  }

  /** The peer waits for the answer, and what it sends after it is the thread's to read: nothing may be read here any more. */
  async #give(socket: net.Socket, volume: string, purpose: LinkPurpose): Promise<void> {
    try {
      stopReading(socket);
      await this.#handOver(volume, duplicateDescriptor(descriptorOf(socket)), socket.remoteAddress, purpose);
      socket.destroy();
    } catch (error) {
      socket.end(encodeRefusal(errorMessage(error)));
    }
  }
}
