import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeObject } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import type { KubeApi, ListScope, WatchEvent } from './kube-api.ts';
import { isGone } from './kube-error.ts';

export interface ReflectorOptions<T extends KubeObject> {
  readonly api: KubeApi;
  readonly resource: Resource<T>;
  readonly scope?: ListScope;
  readonly clock: Clock;
  /** At least 0, below 1; spreads the retries of many operators. */
  readonly random: () => number;
  readonly log: Log;
  /** A watch that says nothing for so long, not even a bookmark (the API server sends one a minute), is taken for dead. */
  readonly idleTimeoutMs?: number;
  /** Everything there is, at the beginning and whenever the history was lost. */
  readonly onList: (items: readonly T[]) => void;
  readonly onChange: (type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T) => void;
  /** The watch broke, or the list failed; it is tried again. */
  readonly onRestart?: (error: unknown) => void;
}

const defaultIdleTimeoutMs = 150_000;
const firstRetryMs = 200;
const longestRetryMs = 30_000;
/** A watch that ended by itself is continued no sooner than this, so that a server that ends them at once is not flooded. */
const shortestPauseMs = 50;

/**
 * Follows a kind for good: lists it, watches from there, and whatever breaks (the connection, the server, the history,
 * silence) starts again, from where it was if the server still knows that, else with a new list. Retries back off.
 * @returns a handle; `stop` resolves when nothing is under way any more.
 */
export function startReflector<T extends KubeObject>(options: ReflectorOptions<T>): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const done = new Reflector(options, stopping.signal).run();
  return {
    async stop() {
      stopping.abort(new Error('stopped'));
      await done;
    },
  };
}

class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #signal: AbortSignal;
  /** Where to continue; undefined when everything has to be listed. */
  #resourceVersion: string | undefined;
  #failures = 0;

  constructor(options: ReflectorOptions<T>, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      let pauseMs = shortestPauseMs;
      try {
        if (this.#resourceVersion === undefined) await this.#list();
        await this.#watch();
        this.#failures = 0;
      } catch (error) {
        if (this.#signal.aborted) return;
        pauseMs = this.#failed(error);
      }
      await delay(this.#options.clock, pauseMs, this.#signal).catch(() => {});
    }
  }

  /** @returns how long to wait before the next attempt. */
  #failed(error: unknown): number {
    this.#options.onRestart?.(error);
    if (isGone(error)) {
      this.#resourceVersion = undefined;
      return shortestPauseMs;
    }
    const { log, random, resource } = this.#options;
    const backoffMs = Math.min(firstRetryMs * 2 ** this.#failures, longestRetryMs);
    this.#failures += 1;
    log.warn({ kind: resource.kind, error: errorMessage(error) }, 'lost the watch; it is tried again');
    return backoffMs / 2 + (random() * backoffMs) / 2;
  }

  async #list(): Promise<void> {
    const { api, resource, scope, onList } = this.#options;
    const list = await unlessAborted(api.list(resource, scope), this.#signal);
    this.#resourceVersion = list.resourceVersion;
    onList(list.items);
  }

  async #watch(): Promise<void> {
    const { api, resource, scope, clock } = this.#options;
    const attempt = new AbortController();
    const abort = () => attempt.abort(this.#signal.reason);
    this.#signal.addEventListener('abort', abort, { once: true });
    const idleTimeoutMs = this.#options.idleTimeoutMs ?? defaultIdleTimeoutMs;
    const startTimer = () =>
      clock.after(idleTimeoutMs, () => attempt.abort(new Error(`no word from the API server for ${idleTimeoutMs} ms`)));
    let timer = startTimer();
    try {
      const request = { ...scope, resourceVersion: this.#resourceVersion ?? '0', signal: attempt.signal };
      await api.watch(resource, request, (event) => {
        timer.cancel();
        timer = startTimer();
        this.#handle(event);
      });
    } finally {
      timer.cancel();
      this.#signal.removeEventListener('abort', abort);
    }
  }

  #handle(event: WatchEvent<T>): void {
    if (this.#signal.aborted) return;
    this.#failures = 0;
    if (event.type === 'BOOKMARK') {
      this.#resourceVersion = event.resourceVersion;
      return;
    }
    this.#resourceVersion = event.object.metadata.resourceVersion;
    this.#options.onChange(event.type, event.object);
  }
}

/** What the promise gives, unless the signal aborts first: nobody waits for an answer that is not wanted any more. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
