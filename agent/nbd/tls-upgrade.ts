import { createServer, type TLSSocket } from 'node:tls';
import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { identityOfSubject } from '../../common/peer-identity.ts';
import type { NbdClient } from './exports.ts';
import { SocketConnection } from './socket-connection.ts';

/** PEM texts: who may connect, and who we are. */
export interface TlsMaterial {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/**
 * Makes TLS 1.3 of a plain connection, as its server, and demands a certificate of the client that the CA has issued.
 * The plain connection is of no use afterwards, whatever the outcome.
 */
export function upgradeToTls(
  plain: SocketConnection,
  material: TlsMaterial,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): Promise<{ readonly connection: SocketConnection; readonly client: NbdClient }> {
  const { ca, cert, key } = material;
  const socket = plain.detach();
  return new Promise((resolve, reject) => {
    // A server that never listens: Node checks client certificates in tls.Server only, and documents that connections
    // may be handed to it. It costs little beside the handshake itself, and takes new certificates at once.
    const server = createServer({ ca, cert, key, minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: true });
    const fail = (error: Error) => {
      timer.cancel();
      socket.destroy();
      reject(error);
    };
    const timer = clock.after(timeoutMs, () => fail(new UnderstudyError('Timeout', 'no TLS handshake in time')));
    const onClose = () => fail(new UnderstudyError('Closed', 'the connection was closed during the TLS handshake'));
    socket.once('close', onClose);
    server.once('tlsClientError', (cause) => {
      fail(new UnderstudyError('Protocol', `TLS handshake failed: ${cause.message}`, { cause }));
    });
    server.once('secureConnection', (secure: TLSSocket) => {
      timer.cancel();
      socket.off('close', onClose);
      const peer = identityOfSubject(secure.getPeerCertificate().subject);
      resolve({ connection: new SocketConnection(secure), client: peer ? { peer } : {} });
    });
    server.emit('connection', socket);
  });
}
