import { createServer, type Server, type ServerOptions } from 'node:https';
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { enrollmentPath, enrollmentRequestSchema } from '../../agent/api/contract/enrollment.ts';
import type { Problem } from '../../agent/api/contract/problem.ts';
import { type Address, formatAddress } from '../../common/address.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { formatPath, validate } from '../../common/validation.ts';
import { type Enrollment, isRefusal } from './enrollment.ts';

/** PEM. */
export interface ServingCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface EnrollmentServerOptions {
  readonly listen: Address;
  readonly enrollment: Enrollment;
  readonly certificate: ServingCertificate;
  readonly log: Log;
  readonly onEnrolled: (result: 'issued' | 'refused' | 'failed') => void;
}

/** A request and its name and braces. */
const bodyLimitBytes = 16 * 1024;
/** Tokens have some 1,500 characters. */
const maxHeaderBytes = 16 * 1024;
/** Each of them has a token reviewed: strangers must not be able to flood the API server through this. */
const maxConcurrent = 16;
const requestTimeoutMs = 10_000;

/** The one HTTPS endpoint of an operator: agents, who have no certificate yet, ask here for one. */
export class EnrollmentServer {
  readonly address: Address;
  readonly #server: Server;
  readonly #close: () => Promise<void>;

  private constructor(address: Address, server: Server, close: () => Promise<void>) {
    this.address = address;
    this.#server = server;
    this.#close = close;
  }

  /** @throws UnderstudyError Unavailable */
  static async start(options: EnrollmentServerOptions): Promise<EnrollmentServer> {
    const { listen, certificate } = options;
    const limits = {
      maxHeaderSize: maxHeaderBytes,
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
    };
    const app = Fastify({
      bodyLimit: bodyLimitBytes,
      forceCloseConnections: true,
      serverFactory: (handler) => createServer({ ...limits, ...tlsOptions(certificate) }, handler),
    });
    addRoute(app, options);
    try {
      await app.listen(listen);
    } catch (cause) {
      throw new UnderstudyError('Unavailable', `cannot listen on ${formatAddress(listen)} (enrollment.listen)`, {
        cause,
      });
    }
    const server = app.server as Server;
    const bound = server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : listen.port;
    return new EnrollmentServer({ host: listen.host, port }, server, () => app.close());
  }

  /** For connections that are made from now on. */
  renew(certificate: ServingCertificate): void {
    this.#server.setSecureContext(tlsOptions(certificate));
  }

  async stop(): Promise<void> {
    await this.#close();
  }
}

/** What is used of it. */
interface App {
  post(path: string, handler: (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>): unknown;
}

function tlsOptions({ cert, key }: ServingCertificate): ServerOptions {
  return { cert, key, minVersion: 'TLSv1.3' };
}

function addRoute(app: App, options: EnrollmentServerOptions): void {
  const { enrollment, log, onEnrolled } = options;
  let running = 0;
  app.post(enrollmentPath, async (request: FastifyRequest, reply: FastifyReply) => {
    if (running >= maxConcurrent)
      return await answer(reply, 503, 'Unavailable', 'too many requests at once; try again');
    const [, token] = /^Bearer ([\w.~+/=-]+)$/.exec(request.headers.authorization ?? '') ?? [];
    if (token === undefined)
      return await answer(reply, 401, 'Invalid', 'expected a service account token as bearer token');
    const body = validate(enrollmentRequestSchema, request.body);
    if (!body.ok) {
      const mistakes = body.violations.map(({ path, message }) => `${formatPath(path)}: ${message}`);
      return await answer(reply, 400, 'Invalid', mistakes.join('; '));
    }
    running += 1;
    try {
      const certificate = await enrollment.enroll(token, body.value.request);
      onEnrolled('issued');
      return await reply.send({ certificate });
    } catch (error) {
      const refused = isRefusal(error);
      onEnrolled(refused ? 'refused' : 'failed');
      const labels = { peer: request.socket.remoteAddress, error: errorMessage(error) };
      log.warn(labels, refused ? 'refused a certificate' : 'could not issue a certificate');
      const [status, detail] = outcomeOf(error, refused);
      return await answer(reply, status, errorCode(error), detail);
    } finally {
      running -= 1;
    }
  });
}

/** What went wrong between the operator and the API server is not for strangers. */
function outcomeOf(error: unknown, refused: boolean): [number, string] {
  if (refused) return [403, errorMessage(error)];
  if (errorCode(error) === 'Invalid' && error instanceof UnderstudyError && error.labels.status === undefined) {
    return [400, errorMessage(error)];
  }
  return [503, 'the operator could not look the token up; it says why in its log'];
}

async function answer(reply: FastifyReply, status: number, code: string, detail: string): Promise<FastifyReply> {
  const problem: Problem = { type: 'about:blank', title: code, status, detail, code };
  return await reply.code(status).type('application/problem+json').send(JSON.stringify(problem));
}
