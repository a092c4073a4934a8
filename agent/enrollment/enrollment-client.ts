import { request as httpsRequest } from 'node:https';
import type { PeerCertificate } from 'node:tls';
import { type Clock, systemClock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { identityOfSubject } from '../../common/peer-identity.ts';
import { enrollmentAnswerSchema, enrollmentPath } from '../api/contract/enrollment.ts';
import { problemSchema } from '../api/contract/problem.ts';

const timeoutMs = 15_000;
const maxAnswerBytes = 64 * 1024;

export interface EnrollmentCall {
  /** Of the operator's endpoint, https. */
  readonly url: string;
  /** Authorities, PEM. */
  readonly ca: string;
  /** Of the service account. */
  readonly token: string;
  /** PKCS #10, PEM. */
  readonly request: string;
  readonly clock?: Clock;
}

/**
 * Asks an operator for a certificate. Whoever answers must show a certificate of an operator: the token is not told to
 * anybody else. @returns PEM @throws UnderstudyError Unavailable, Timeout, Protocol; or the operator's refusal
 */
export async function requestCertificate(call: EnrollmentCall): Promise<string> {
  const { clock = systemClock } = call;
  const giveUp = new AbortController();
  const timer = clock.after(timeoutMs, () => giveUp.abort());
  try {
    return await send(call, giveUp.signal);
  } catch (cause) {
    if (cause instanceof UnderstudyError) throw cause;
    throw giveUp.signal.aborted
      ? new UnderstudyError('Timeout', `the operator at ${call.url} did not answer within ${timeoutMs} ms`)
      : new UnderstudyError('Unavailable', `the operator at ${call.url} cannot be reached`, { cause });
  } finally {
    timer.cancel();
  }
}

async function send({ url, ca, token, request }: EnrollmentCall, signal: AbortSignal): Promise<string> {
  const body = JSON.stringify({ request });
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const sent = httpsRequest(new URL(enrollmentPath, url), {
    method: 'POST',
    ca,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (_host, certificate) => notOperator(certificate),
    // A connection of its own: there is one request in days.
    agent: false,
    signal,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    },
  });
  sent.on('error', reject);
  sent.on('response', (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (piece: string) => {
      text += piece;
      if (text.length > maxAnswerBytes)
        response.destroy(new UnderstudyError('Protocol', 'an answer of a length that makes no sense'));
    });
    response.on('error', reject);
    response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
  });
  sent.end(body);
  const { status, text } = await promise;
  return certificateOf(url, status, text);
}

function notOperator(certificate: PeerCertificate): Error | undefined {
  const identity = identityOfSubject(certificate.subject ?? {});
  if (identity?.role === 'operator') return undefined;
  const found = identity === undefined ? 'no name of ours' : `${identity.role} ${identity.name}`;
  return new UnderstudyError('Unavailable', `expected the certificate of an operator, got one of ${found}`);
}

function certificateOf(url: string, status: number, text: string): string {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw new UnderstudyError('Protocol', `${url} answered ${status} with something that is no JSON`);
  }
  if (status === 200) {
    const answer = enrollmentAnswerSchema.safeParse(content);
    if (answer.success) return answer.data.certificate;
    throw new UnderstudyError('Protocol', `${url} answered without a certificate`);
  }
  const problem = problemSchema.safeParse(content);
  const why = problem.success ? problem.data.detail : `it answered ${status}`;
  throw new UnderstudyError('Unavailable', `the operator gave no certificate: ${why}`);
}
