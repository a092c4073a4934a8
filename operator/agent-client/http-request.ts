import http from 'node:http';
import https from 'node:https';
import type { PeerCertificate } from 'node:tls';
import { UnderstudyError } from '../../common/errors.ts';
import { readBody } from '../../common/http-body.ts';
import { identityOfSubject } from '../../common/peer-identity.ts';

/** PEM. */
export interface AgentTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface HttpRequest {
  readonly url: string;
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  readonly body?: object;
  readonly signal: AbortSignal;
  readonly agent: http.Agent;
}

export interface HttpResponse {
  readonly status: number;
  readonly text: string;
}

/** A list of thousands of volumes, each with hundreds of snapshots, stays below it. */
const maxAnswerBytes = 64 * 1024 * 1024;

/**
 * The connections to one agent, kept open between requests. Over TLS the agent must show a certificate that names its node,
 * whatever its address is.
 */
export function connectionsTo(node: string, tls: AgentTls | undefined): http.Agent {
  if (tls === undefined) return new http.Agent({ keepAlive: true, maxSockets: 8 });
  return new https.Agent({
    ...tls,
    keepAlive: true,
    maxSockets: 8,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (_host, certificate) => wrongNode(node, certificate),
  });
}

function wrongNode(node: string, certificate: PeerCertificate): Error | undefined {
  const identity = identityOfSubject(certificate.subject ?? {});
  if (identity?.role === 'node' && identity.name === node) return undefined;
  const shown = identity === undefined ? 'no name of ours' : `${identity.role} ${identity.name}`;
  return new UnderstudyError('Unavailable', `expected the certificate of node ${node}, got one of ${shown}`);
}

/** Sends a request and reads the whole answer. */
export async function sendRequest(request: HttpRequest): Promise<HttpResponse> {
  const { url, method, body, signal, agent } = request;
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
  const sent = (url.startsWith('https:') ? https : http).request(
    url,
    {
      method,
      agent,
      signal,
      headers:
        payload === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
    },
    (response) => {
      const status = response.statusCode ?? 0;
      readBody(response, maxAnswerBytes).then((text) => resolve({ status, text }), reject);
    },
  );
  sent.on('error', reject);
  sent.end(payload);
  return await promise;
}
