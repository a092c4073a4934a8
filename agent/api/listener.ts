import { createServer, type RequestListener, type Server, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer, type ServerOptions, Server as TlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { HttpError, problemOf } from './problem.ts';

/** PEM texts: the CA that must have issued a client's certificate, and the server's own certificate and key. */
export interface TlsMaterial {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A client has this long to send all of a request. */
const requestTimeoutMs = 30_000;
/** Well above the client's own limit, so that it is the client who ends an idle connection. */
const keepAliveTimeoutMs = 75_000;

/** The HTTP server below the API, over TLS 1.3 unless `tls` is undefined. */
export function createListener(tls: TlsMaterial | undefined, handler: RequestListener): Server {
  const limits = {
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
  };
  if (tls === undefined) return createServer(limits, handler);
  return createTlsServer({ ...limits, ...tlsOptions(tls) }, handler);
}

/** Has new connections served with renewed certificates; those that are open stay. */
export function renewCertificates(server: Server, tls: TlsMaterial): void {
  if (server instanceof TlsServer) server.setSecureContext(tlsOptions(tls));
}

/** The answer to what is not HTTP, or came too slowly. The socket is of no more use. */
export function answerBrokenRequest(error: { readonly code?: string }, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = statusOfParserError(error.code);
  const detail = status === 400 ? 'expected an HTTP/1.1 request' : (STATUS_CODES[status] ?? '').toLowerCase();
  const body = JSON.stringify(problemOf(new HttpError(status, detail), '').problem);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/**
 * A connection without a certificate is let in, for the probes alone: what it may do is decided request by request, see
 * admission.ts.
 */
function tlsOptions(tls: TlsMaterial): ServerOptions {
  return { ...tls, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.3' };
}

function statusOfParserError(code: string | undefined): number {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 408;
  return code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
}
