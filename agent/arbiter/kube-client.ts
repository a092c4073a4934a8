import http from 'node:http';
import https from 'node:https';
import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { readBody } from '../../common/http-body.ts';
import type { KubeAccess, KubeCredentials } from './kube-access.ts';

export interface KubeAnswer {
  readonly status: number;
  /** Parsed JSON; undefined if it was none. */
  readonly body: unknown;
}

/** One object with its managed fields stays far below it. */
const maxAnswerBytes = 4 * 1024 * 1024;

/**
 * As much of a client of the Kubernetes API as two kinds of requests need. The whole client library costs an agent more
 * memory than a volume does.
 */
export class KubeClient {
  readonly #access: KubeAccess;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** The connections that are kept open, and the credentials that they were made with. */
  #connections: http.Agent | undefined;
  #madeWith = '';

  constructor(access: KubeAccess, clock: Clock, timeoutMs: number) {
    this.#access = access;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** @throws UnderstudyError Invalid (credentials), or the connection's error; then nobody knows what became of it */
  async request(method: 'GET' | 'PATCH', path: string, body?: object): Promise<KubeAnswer> {
    const credentials = await this.#access();
    const giveUp = new AbortController();
    const timer = this.#clock.after(this.#timeoutMs, () =>
      giveUp.abort(new UnderstudyError('Timeout', `no answer from ${credentials.server} in ${this.#timeoutMs} ms`)),
    );
    try {
      return await this.#send(credentials, method, path, body, giveUp.signal);
    } catch (error) {
      throw giveUp.signal.aborted ? giveUp.signal.reason : error;
    } finally {
      timer.cancel();
    }
  }

  close(): void {
    this.#connections?.destroy();
  }

  #send(
    credentials: KubeCredentials,
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<KubeAnswer> {
    const { server, token } = credentials;
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const { promise, resolve, reject } = Promise.withResolvers<KubeAnswer>();
    const sent = (server.startsWith('https:') ? https : http).request(
      server + path,
      {
        method,
        signal,
        agent: this.#connectionsWith(credentials),
        headers: {
          accept: 'application/json',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/merge-patch+json', 'content-length': Buffer.byteLength(payload) }),
        },
      },
      (response) => {
        const status = response.statusCode ?? 0;
        readBody(response, maxAnswerBytes).then((text) => resolve({ status, body: parseJson(text) }), reject);
      },
    );
    sent.on('error', reject);
    sent.end(payload);
    return promise;
  }

  #connectionsWith({ server, ca, cert, key, insecure }: KubeCredentials): http.Agent {
    const madeWith = JSON.stringify({ server, ca, cert, key, insecure });
    if (this.#connections !== undefined && madeWith === this.#madeWith) return this.#connections;
    this.#connections?.destroy();
    this.#madeWith = madeWith;
    const options = { keepAlive: true, maxSockets: 4 };
    this.#connections = server.startsWith('https:')
      ? new https.Agent({
          ...options,
          ...(ca === undefined ? {} : { ca }),
          ...(cert === undefined ? {} : { cert }),
          ...(key === undefined ? {} : { key }),
          rejectUnauthorized: !insecure,
        })
      : new http.Agent(options);
    return this.#connections;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
