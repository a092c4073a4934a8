import { createServer, type Server, type Socket } from 'node:net';
import { type Clock, delay, systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { descriptorOf, stopReading } from '../store/socket-descriptor.ts';
import { duplicateDescriptor } from '../store/syscalls.ts';
import type { ExportProvider } from './exports.ts';
import { defaultLimits, type NbdLimits } from './limits.ts';
import { NbdSession } from './session.ts';
import { SocketConnection } from './socket-connection.ts';
import { type TlsMaterial, upgradeToTls } from './tls-upgrade.ts';
import { listenPrivately, type PrivateSocket } from './unix-socket.ts';

export interface NbdServerOptions {
  readonly exports: ExportProvider;
  readonly log: Log;
  readonly limits?: Partial<NbdLimits>;
  readonly clock?: Clock;
  /**
   * Demands TLS, with a certificate from every client, on every connection. Called for each connection, so that renewed
   * certificates are used at once. Without it there is no TLS.
   */
  readonly tls?: () => TlsMaterial;
}

const keepAliveDelayMs = 30_000;

/** Serves exports to NBD clients on a unix socket, on accepted sockets, or both. */
export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #limits: NbdLimits;
  readonly #sessions = new Map<NbdSession, Promise<void>>();
  #listener: { server: Server; socket: PrivateSocket } | undefined;
  #closing = false;

  /** A server that listens nowhere: it serves what `serve` is given. */
  constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
  }

  /**
   * Listens on a unix socket that only root can use. A socket file that nobody listens on any more is replaced.
   * @throws UnderstudyError InUse when another server answers there, Conflict when the path is something else.
   */
  static async listen(options: NbdServerOptions & { readonly path: string }): Promise<NbdServer> {
    const nbd = new NbdServer(options);
    const server = createServer((socket) => nbd.#accepted(socket));
    nbd.#listener = { server, socket: await listenPrivately(server, options.path) };
    return nbd;
  }

  /** Connections whose clients are there, or whose requests are not finished yet. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Serves a client on a socket that was accepted elsewhere; the server owns it from here on. */
  serve(socket: Socket): void {
    if (this.#refuses(socket)) return;
    socket.setNoDelay(true);
    // A client that vanished from the network would hold its export for ever.
    socket.setKeepAlive(true, keepAliveDelayMs);
    this.#begin(new SocketConnection(socket));
  }

  /** A client on the unix socket. Without TLS it gets a socket that is read into memory of ours. */
  #accepted(socket: Socket): void {
    if (this.#options.tls) return this.serve(socket);
    if (this.#refuses(socket)) return;
    try {
      stopReading(socket);
      this.#begin(SocketConnection.adopt(duplicateDescriptor(descriptorOf(socket))));
    } catch (error) {
      this.#options.log.warn({ error: errorMessage(error) }, 'connection refused');
    }
    socket.destroy();
  }

  #refuses(socket: Socket): boolean {
    if (!this.#closing && this.#sessions.size < this.#limits.maxConnections) return false;
    this.#options.log.warn({ connections: this.#sessions.size }, 'connection refused');
    socket.destroy();
    return true;
  }

  #begin(connection: SocketConnection): void {
    const { exports, log, clock = systemClock, tls } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timeoutMs = this.#limits.handshakeMs;
    const session = new NbdSession(connection, {
      exports,
      limits: this.#limits,
      clock,
      log,
      client: {},
      ...(tls && { startTls: () => upgradeToTls(connection, tls(), { clock, timeoutMs }) }),
      defer: (callback) => process.nextTick(callback),
      ended: () => {
        this.#sessions.delete(session);
        resolve();
      },
    });
    this.#sessions.set(session, promise);
  }

  /**
   * Ends the connections to the exports of which the predicate says so: what is under way is answered, for a bounded
   * time, then they are closed. Says how many requests are still under way in their devices; those complete without
   * replies, and their exports are closed after them.
   */
  async disconnect(matches: (exportName: string) => boolean): Promise<{ unfinishedRequests: number }> {
    const chosen = [...this.#sessions.keys()].filter(
      (session) => session.exportName !== undefined && matches(session.exportName),
    );
    return this.#end(chosen);
  }

  /** Stops listening and ends every connection as `disconnect` does. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#listener?.socket.close();
    await this.#end([...this.#sessions.keys()]);
  }

  async #end(sessions: readonly NbdSession[]): Promise<{ unfinishedRequests: number }> {
    await Promise.all(sessions.map((session) => this.#endSession(session)));
    const unfinishedRequests = sessions.reduce((sum, session) => sum + session.requestsInFlight, 0);
    return { unfinishedRequests };
  }

  /** Waits for the export to be closed too, unless requests are stuck in its device, or closing takes too long. */
  async #endSession(session: NbdSession): Promise<void> {
    const ended = this.#sessions.get(session);
    await session.drain();
    if (session.requestsInFlight > 0) return;
    await Promise.race([ended, delay(this.#options.clock ?? systemClock, this.#limits.drainMs)]);
  }
}
