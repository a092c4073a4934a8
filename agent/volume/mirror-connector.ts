import net from 'node:net';
import tls from 'node:tls';
import { parseAddress } from '../../common/address.ts';
import { systemClock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import { identityOfSubject } from '../../common/peer-identity.ts';
import type { Connection } from '../core/connection.ts';
import { TcpConnection } from '../mirror/tcp-connection.ts';
import type { LinkTls } from './engine-calls.ts';
import { decodeAnswer, encodeRequest, type LinkPurpose } from './mirror-preamble.ts';

const connectTimeoutMs = 5_000;

/** The nodes that may be at the other end; undefined: any node of the cluster. */
type Peers = readonly string[] | undefined;

/** Connects to a standby's agent for one volume. @throws UnderstudyError Unavailable, Protocol, Timeout */
export async function connectMirror(
  address: string,
  volume: string,
  security: LinkTls | undefined,
  peers?: Peers,
  purpose: LinkPurpose = 'mirror',
): Promise<Connection> {
  const socket = await open(address);
  try {
    await introduce(socket, volume, purpose);
    return new TcpConnection(security ? await secureClient(socket, security, peers) : socket);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Takes over a connection that was accepted elsewhere, answers its preamble, and secures it. */
export async function adoptMirror(
  descriptor: number,
  goAhead: Uint8Array,
  security: LinkTls | undefined,
  peers?: Peers,
): Promise<Connection> {
  if (!security) {
    const connection = TcpConnection.adopt(descriptor);
    connection.send(goAhead);
    return connection;
  }
  const socket = new net.Socket({ fd: descriptor, readable: true, writable: true });
  socket.pause();
  socket.on('error', () => undefined);
  const secured = secureServer(socket, security);
  socket.write(goAhead);
  const link = await secured;
  checkPeer(link, peers);
  return new TcpConnection(link);
}

/** By way of a server that never listens: Node checks the certificates of clients in servers only. */
function secureServer(socket: net.Socket, security: LinkTls): Promise<tls.TLSSocket> {
  const server = tls.createServer({ ...security, minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: true });
  const secured = new Promise<tls.TLSSocket>((resolve, reject) => {
    const fail = (why: string) => {
      timer.cancel();
      socket.destroy();
      reject(new UnderstudyError('Protocol', `TLS handshake on a mirror link: ${why}`));
    };
    const timer = systemClock.after(connectTimeoutMs, () => fail(`nothing within ${connectTimeoutMs} ms`));
    socket.once('close', () => fail('the peer closed the connection'));
    server.once('tlsClientError', (error) => fail(error.message));
    server.once('secureConnection', (link) => {
      timer.cancel();
      resolve(link);
    });
  });
  server.emit('connection', socket);
  return secured;
}

async function open(address: string): Promise<net.Socket> {
  const socket = net.connect({ ...parseAddress(address), noDelay: true });
  await once(socket, 'connect', `connection to ${address}`);
  return socket;
}

/** Says which volume the connection is for, and waits until its thread has taken over. */
async function introduce(socket: net.Socket, volume: string, purpose: LinkPurpose): Promise<void> {
  let received: Buffer = Buffer.alloc(0);
  socket.write(encodeRequest(volume, purpose));
  for (;;) {
    const answer = decodeAnswer(received);
    if (answer === 'go') return;
    if (answer) throw new UnderstudyError('Unavailable', answer.refused);
    const bytes = await once(socket, 'data', 'answer of the mirror listener');
    socket.pause();
    received = Buffer.concat([received, bytes as Buffer]);
  }
}

async function secureClient(socket: net.Socket, security: LinkTls, peers: Peers): Promise<net.Socket> {
  const secured = tls.connect({
    socket,
    ...security,
    minVersion: 'TLSv1.3',
    // Addresses change and are no identity; that the peer belongs to the cluster is what its certificate says.
    checkServerIdentity: () => undefined,
  });
  await once(secured, 'secureConnect', 'TLS handshake on a mirror link');
  checkPeer(secured, peers);
  return secured;
}

/**
 * Mirrors are a matter between the nodes that have a copy of the volume: neither a stranger nor the operator nor another node
 * has any business on a link.
 */
function checkPeer(socket: tls.TLSSocket, peers: Peers): void {
  const identity = socket.authorized ? identityOfSubject(socket.getPeerCertificate().subject) : undefined;
  const isNode = identity?.role === 'node';
  if (isNode && (peers === undefined || peers.includes(identity.name))) return;
  socket.destroy();
  const found = socket.authorized
    ? JSON.stringify(identity ?? 'a certificate that names nobody')
    : String(socket.authorizationError);
  if (isNode) {
    const expected = `one of ${peers?.join(', ')}, which have copies of the volume`;
    throw new UnderstudyError('Protocol', `the peer of this mirror link must be ${expected}, found ${identity.name}`);
  }
  throw new UnderstudyError(
    'Protocol',
    `the peer of a mirror link must be a node with a certificate of this cluster, found ${found}`,
  );
}

/** The first event of that name, or an error: the socket's own, its end, or the timeout. */
function once(socket: net.Socket, event: string, what: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const finish = () => {
      timer.cancel();
      socket.off(event, onEvent).off('error', onError).off('close', onClose);
    };
    const onEvent = (value: unknown) => {
      finish();
      resolve(value);
    };
    const fail = (code: 'Unavailable' | 'Timeout', message: string) => {
      finish();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(new UnderstudyError(code, message));
    };
    const onError = (error: unknown) => fail('Unavailable', errorMessage(error));
    const onClose = () => fail('Unavailable', `${what}: the peer closed the connection`);
    const timer = systemClock.after(connectTimeoutMs, () =>
      fail('Timeout', `${what}: nothing within ${connectTimeoutMs} ms`),
    );
    socket.on(event, onEvent).on('error', onError).on('close', onClose);
  });
}
