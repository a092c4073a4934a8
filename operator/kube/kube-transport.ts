import {
  HttpMethod,
  IsomorphicFetchHttpLibrary,
  type KubeConfig,
  RequestContext,
  type ResponseContext,
} from '@kubernetes/client-node';
import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { kubeError } from './kube-error.ts';

type Dispatcher = ReturnType<RequestContext['getDispatcher']>;

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With the query. */
  readonly path: string;
  readonly body?: object;
  readonly contentType?: string;
}

/** Told of every request: its method, the status of the answer (0 if there was none), and the time until then. */
export type RequestObserver = (method: string, status: number, seconds: number) => void;

export interface KubeTransportOptions {
  readonly observe?: RequestObserver;
  /** Who this is, for the API server's audit log. */
  readonly userAgent?: string;
}

/** Client certificates and authorities are read again after this time: they are rotated. */
const credentialsLifeMs = 10 * 60_000;
const requestTimeoutMs = 30_000;

/**
 * Requests to the API server with the address and credentials of a kubeconfig. The connection pool (a dispatcher) is kept
 * between requests; the client library on its own would open another one for each.
 */
export class KubeTransport {
  readonly #config: KubeConfig;
  readonly #clock: Clock;
  readonly #http = new IsomorphicFetchHttpLibrary();
  readonly #server: string;
  readonly #observe: RequestObserver;
  readonly #userAgent: string;
  #dispatcher: Dispatcher;
  #dispatcherSinceMs = Number.NEGATIVE_INFINITY;

  /** @throws UnderstudyError Invalid if the kubeconfig names no cluster. */
  constructor(config: KubeConfig, clock: Clock, options: KubeTransportOptions = {}) {
    const cluster = config.getCurrentCluster();
    if (cluster === null) {
      throw new UnderstudyError(
        'Invalid',
        `the kubeconfig has no cluster for its context "${config.getCurrentContext()}"`,
      );
    }
    this.#server = cluster.server.replace(/\/+$/, '');
    this.#config = config;
    this.#clock = clock;
    this.#observe = options.observe ?? (() => {});
    this.#userAgent = options.userAgent ?? 'understudy';
  }

  /** The JSON that the API server answers. @throws an error of kubeError */
  async json(request: KubeRequest): Promise<unknown> {
    const timeout = new AbortController();
    const timer = this.#clock.after(requestTimeoutMs, () =>
      timeout.abort(kubeError(504, 'Timeout', `no answer from ${this.#server} within ${requestTimeoutMs} ms`)),
    );
    try {
      const response = await this.#send(request, timeout.signal);
      const text = await response.body.text();
      if (response.httpStatusCode >= 400) throw answeredError(request, response.httpStatusCode, text);
      return JSON.parse(text);
    } catch (error) {
      throw this.#asKubeError(request, timeout.signal.aborted ? timeout.signal.reason : error);
    } finally {
      timer.cancel();
    }
  }

  /** The body of an answer that goes on. When the signal aborts, its reason is thrown. */
  async stream(request: KubeRequest, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    try {
      const response = await this.#send(request, signal);
      if (response.httpStatusCode >= 400) {
        throw answeredError(request, response.httpStatusCode, await response.body.text());
      }
      const stream = response.body.stream();
      if (stream === null) throw kubeError(502, 'NoBody', `${this.#server} answered without a body`);
      return stream;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw this.#asKubeError(request, error);
    }
  }

  async #send(request: KubeRequest, signal: AbortSignal): Promise<ResponseContext> {
    const startMs = this.#clock.monotonicMs();
    let status = 0;
    try {
      const response = await this.#request(request, signal);
      status = response.httpStatusCode;
      return response;
    } finally {
      this.#observe(request.method, status, (this.#clock.monotonicMs() - startMs) / 1000);
    }
  }

  async #request(request: KubeRequest, signal: AbortSignal): Promise<ResponseContext> {
    const context = new RequestContext(this.#server + request.path, HttpMethod[request.method]);
    context.setHeaderParam('Accept', 'application/json');
    context.setHeaderParam('User-Agent', this.#userAgent);
    context.setSignal(signal);
    if (request.body !== undefined) {
      context.setHeaderParam('Content-Type', request.contentType ?? 'application/json');
      context.setBody(JSON.stringify(request.body));
    }
    await this.#config.applySecurityAuthentication(context);
    const dispatcher = this.#pool(context.getDispatcher());
    if (dispatcher !== undefined) context.setDispatcher(dispatcher);
    return await this.#http.send(context).toPromise();
  }

  /** The pool in use, or the new one when the old has come of age; requests under way finish on the old. */
  #pool(fresh: Dispatcher): Dispatcher {
    if (this.#clock.monotonicMs() - this.#dispatcherSinceMs < credentialsLifeMs) return this.#dispatcher;
    void this.#dispatcher?.close();
    this.#dispatcher = fresh;
    this.#dispatcherSinceMs = this.#clock.monotonicMs();
    return fresh;
  }

  #asKubeError(request: KubeRequest, error: unknown): unknown {
    if (error instanceof UnderstudyError) return error;
    return kubeError(503, 'Unreachable', `cannot ${request.method} ${request.path} at ${this.#server}`, error);
  }
}

/** The API server explains a failure with an object of kind Status; proxies in between do not. */
function answeredError(request: KubeRequest, status: number, text: string): UnderstudyError {
  const explained = parseStatus(text);
  const message = explained?.message ?? `the API server answered ${status} to ${request.method} ${request.path}`;
  return kubeError(status, explained?.reason ?? 'Unknown', message);
}

export function parseStatus(text: string): { code?: number; reason?: string; message?: string } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? statusFields(value) : undefined;
  } catch {
    return undefined;
  }
}

/** The fields of a Status object. Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
export function statusFields(value: object): { code?: number; reason?: string; message?: string } {
  const code: unknown = Reflect.get(value, 'code');
  const reason: unknown = Reflect.get(value, 'reason');
  const message: unknown = Reflect.get(value, 'message');
  return {
    ...(typeof code === 'number' ? { code } : {}),
    ...(typeof reason === 'string' ? { reason } : {}),
    ...(typeof message === 'string' ? { message } : {}),
  };
}
