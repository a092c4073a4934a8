import { readdir } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Duplex, pipeline } from 'node:stream';
import { formatAddress, parseAddress } from '../../common/address.ts';
import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { ByteReader } from './byte-reader.ts';
import { encodeOptionRequest } from './codec.ts';
import { handshakeFlag, length, option, optionReply } from './constants.ts';
import { type RemoteExports, volumeOfRemoteExport } from './export-access.ts';
import type { NbdClient } from './exports.ts';
import { GatewayHandshake, type GatewayPorts, readReply } from './gateway-handshake.ts';
import { defaultLimits } from './limits.ts';
import { SocketConnection } from './socket-connection.ts';
import { type TlsMaterial, upgradeToTls } from './tls-upgrade.ts';

export interface GatewayOptions {
  /** host:port; port 0 lets the operating system choose. */
  readonly listen: string;
  /** With a unix socket `<volume>.sock` for each volume. */
  readonly directory: string;
  readonly exports: RemoteExports;
  /** Demands TLS with a certificate of each client; called for each connection. Without it there is none. */
  readonly tls?: (() => TlsMaterial) | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

const keepAliveDelayMs = 30_000;
const socketSuffix = '.sock';

/**
 * One TCP port for the exports of all volumes of a node. It does the TLS and the option haggling; then the bytes of client
 * and volume go back and forth as they are, so that the volume's thread has nothing of it but one more client of its socket.
 */
export class NbdGateway {
  readonly #options: GatewayOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(options: GatewayOptions) {
    this.#options = options;
    this.#server = createServer((socket) => void this.#accepted(socket));
  }

  /** @throws UnderstudyError Unavailable */
  static async listen(options: GatewayOptions): Promise<NbdGateway> {
    const gateway = new NbdGateway(options);
    const { host, port } = parseAddress(options.listen);
    await new Promise<void>((resolve, reject) => {
      gateway.#server.once('error', (error) => {
        reject(
          new UnderstudyError('Unavailable', `cannot listen for NBD on ${options.listen}: ${errorMessage(error)}`),
        );
      });
      gateway.#server.listen({ host, port }, resolve);
    });
    return gateway;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #accepted(socket: Socket): Promise<void> {
    const { clock, log } = this.#options;
    const { remoteAddress: host = '', remotePort: port = 0 } = socket;
    const peer = formatAddress({ host, port });
    socket.on('error', () => {});
    if (this.#sockets.size >= defaultLimits.maxConnections) return void socket.destroy();
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.setNoDelay(true);
    // A client that vanished from the network would hold its export for ever.
    socket.setKeepAlive(true, keepAliveDelayMs);
    const timeout = clock.after(defaultLimits.handshakeMs, () => socket.destroy());
    try {
      const joined = await new GatewayHandshake(socket, this.#portsFor(socket)).run();
      if (joined) splice(joined.client, joined.server);
      else socket.destroySoon();
    } catch (error) {
      log.warn({ peer, error: errorMessage(error) }, 'an NBD client failed');
      socket.destroySoon();
    } finally {
      timeout.cancel();
    }
  }

  #portsFor(socket: Socket): GatewayPorts {
    const { tls, exports, clock } = this.#options;
    const { maxOptions, maxOptionBytes, handshakeMs } = defaultLimits;
    const volumeOf = (name: string, client: NbdClient) =>
      volumeOfRemoteExport(name, client, exports, tls !== undefined);
    const secure = async (material: TlsMaterial) => {
      const plain = new SocketConnection(socket);
      const { connection, client } = await upgradeToTls(plain, material, { clock, timeoutMs: handshakeMs });
      return { stream: connection.socket, client };
    };
    return {
      maxOptions,
      maxOptionBytes,
      volumeOf,
      connect: (volume) => this.#connect(volume),
      list: (client) => this.#list((name) => isAllowed(() => volumeOf(name, client))),
      startTls: tls && (() => secure(tls())),
    };
  }

  #connect(volume: string): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(join(this.#options.directory, `${volume}${socketSuffix}`));
      socket.once('error', () => reject(new UnderstudyError('NotFound', `no volume ${volume} here`)));
      socket.once('connect', () => resolve(socket));
      socket.on('error', () => {});
    });
  }

  async #list(may: (name: string) => boolean): Promise<string[]> {
    const files = await readdir(this.#options.directory);
    const volumes = files
      .filter((file) => file.endsWith(socketSuffix))
      .map((file) => file.slice(0, -socketSuffix.length));
    const lists = await Promise.all(volumes.map((volume) => this.#exportsOf(volume)));
    return lists.flat().filter(may).toSorted();
  }

  /** What the server of a volume lists; nothing if it is gone. */
  async #exportsOf(volume: string): Promise<string[]> {
    const names: string[] = [];
    let socket: Socket | undefined;
    try {
      socket = await this.#connect(volume);
      const reader = new ByteReader(socket);
      await reader.read(length.greeting);
      const flags = Buffer.alloc(length.clientFlags);
      flags.writeUInt32BE(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes);
      socket.write(flags);
      socket.write(encodeOptionRequest(option.list));
      for (;;) {
        const { type, payload } = await readReply(reader);
        if (type !== optionReply.server) return names;
        names.push(payload.toString('utf8', 4, 4 + payload.readUInt32BE(0)));
      }
    } catch {
      return names;
    } finally {
      socket?.destroy();
    }
  }
}

function splice(client: Duplex, server: Duplex): void {
  // The end of either is the end of both, whatever the reason.
  pipeline(client, server, () => server.destroy());
  pipeline(server, client, () => client.destroy());
}

function isAllowed(check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}
