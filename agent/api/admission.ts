import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { isLoopback, parseAddress } from '../../common/address.ts';
import { identityOfSubject, type PeerIdentity } from '../../common/peer-identity.ts';
import { routes } from './contract/routes.ts';
import { HttpError } from './problem.ts';

/** Liveness and readiness are for the kubelet, which has no certificate; they tell nothing that it may not know. */
const openToEveryone: ReadonlySet<string> = new Set([routes.healthz, routes.readyz]);
/** Monitoring needs no more than a certificate of ours. */
const openToEveryPeer: ReadonlySet<string> = new Set([routes.metrics]);

/**
 * Decides whether a request may go on to its route, by who sent it.
 *
 * Over TLS: the operator may do everything; a node may read the metrics; without a certificate there are only the
 * probes. Without TLS the agent listens on loopback only, and the one thing left to fear is a web page in a browser on
 * this machine that has its own name resolve to a loopback address: such a request carries that name as its host.
 * @throws HttpError 401, 403
 */
export function admit(request: IncomingMessage, path: string): void {
  const { socket } = request;
  if (!(socket instanceof TLSSocket)) {
    admitLocal(request.headers.host ?? '');
    return;
  }
  if (openToEveryone.has(path)) return;
  const peer = peerOf(socket);
  if (peer === undefined) throw new HttpError(401, 'expected a client certificate that names a role of Understudy');
  if (peer.role === 'operator' || openToEveryPeer.has(path)) return;
  throw new HttpError(403, `${peer.role} ${JSON.stringify(peer.name)} may not use the API; only the operator may`);
}

function peerOf(socket: TLSSocket): PeerIdentity | undefined {
  return socket.authorized ? identityOfSubject(socket.getPeerCertificate().subject ?? {}) : undefined;
}

function admitLocal(hostHeader: string): void {
  if (isLoopback(hostOf(hostHeader))) return;
  throw new HttpError(403, `expected a loopback address as the host, got ${JSON.stringify(hostHeader)}`);
}

function hostOf(hostHeader: string): string {
  try {
    return parseAddress(/:[0-9]+$/.test(hostHeader) ? hostHeader : `${hostHeader}:80`).host;
  } catch {
    return '';
  }
}
