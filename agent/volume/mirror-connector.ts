import net from 'node:net';
import tls from 'node:tls';
import { parseAddress } from '../../common/address.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Connection } from '../core/connection.ts';
import { TcpConnection } from '../mirror/tcp-connection.ts';
import type { LinkTls } from './engine-calls.ts';
import { decodeAnswer, encodeRequest } from './mirror-preamble.ts';

const connectTimeoutMs = 5_000;

/** Connects to a standby's agent for one volume. @throws UnderstudyError Unavailable, Protocol, Timeout */
export async function connectMirror(
  address: string,
  volume: string,
  security: LinkTls | undefined,
): Promise<Connection> {
  const socket = await open(address);
  try {
    await introduce(socket, volume);
    return new TcpConnection(security ? await secureClient(socket, security) : socket);
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
): Promise<Connection> {
  const socket = new net.Socket({ fd: descriptor, readable: true, writable: true });
  socket.pause();
  socket.on('error', () => undefined);
  if (!security) {
    const connection = new TcpConnection(socket);
    connection.send(goAhead);
    return connection;
  }
  const secured = new tls.TLSSocket(socket, {
    isServer: true,
    secureContext: tls.createSecureContext({ ...security, minVersion: 'TLSv1.3' }),
    requestCert: true,
    rejectUnauthorized: true,
  });
  socket.write(goAhead);
  await once(secured, 'secure', 'TLS handshake on a mirror link');
  if (!secured.authorized) {
    secured.destroy();
    throw new UnderstudyError(
      'Protocol',
      `the primary's certificate is not accepted: ${String(secured.authorizationError)}`,
    );
  }
  return new TcpConnection(secured);
}

async function open(address: string): Promise<net.Socket> {
  const socket = net.connect({ ...parseAddress(address), noDelay: true });
  await once(socket, 'connect', `connection to ${address}`);
  return socket;
}

/** Says which volume the connection is for, and waits until its thread has taken over. */
async function introduce(socket: net.Socket, volume: string): Promise<void> {
  let received: Buffer = Buffer.alloc(0);
  socket.write(encodeRequest(volume));
  for (;;) {
    const answer = decodeAnswer(received);
    if (answer === 'go') return;
    if (answer) throw new UnderstudyError('Unavailable', answer.refused);
    const bytes = await once(socket, 'data', 'answer of the mirror listener');
    socket.pause();
    received = Buffer.concat([received, bytes as Buffer]);
  }
}

async function secureClient(socket: net.Socket, security: LinkTls): Promise<net.Socket> {
  const secured = tls.connect({
    socket,
    ...security,
    minVersion: 'TLSv1.3',
    // Addresses change and are no identity; that the peer belongs to the cluster is what its certificate says.
    checkServerIdentity: () => undefined,
  });
  await once(secured, 'secureConnect', 'TLS handshake on a mirror link');
  return secured;
}

/** The first event of that name, or an error: the socket's own, its end, or the timeout. */
function once(socket: net.Socket, event: string, what: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const finish = () => {
      clearTimeout(timer);
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
    const timer = setTimeout(() => fail('Timeout', `${what}: nothing within ${connectTimeoutMs} ms`), connectTimeoutMs);
    socket.on(event, onEvent).on('error', onError).on('close', onClose);
  });
}
