import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { OperatorMetrics } from './metrics.ts';

/** What a reconciliation leaves to be done. */
export type Result =
  /** Nothing until something changes. */
  | { readonly type: 'done' }
  /** Look again after this time; spread, so that not all keys come at once, unless the moment matters. */
  | { readonly type: 'again'; readonly afterMs: number; readonly exactly?: boolean }
  /** Something did not work; look again after a time that doubles with each failure. */
  | { readonly type: 'failed' };

export interface WorkQueueOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly metrics: OperatorMetrics;
  /** Whatever it throws counts as failed. */
  readonly reconcile: (key: string) => Promise<Result>;
  readonly concurrency: number;
  readonly firstRetryMs?: number;
  readonly longestRetryMs?: number;
}

/**
 * Keys to be reconciled.
 *
 * Invariants:
 * - A key is in one state at a time: unknown, waiting for its time, queued, or running; so it never runs twice at once.
 * - A key that is added while it runs runs once more afterwards, however often it was added.
 * - At most `concurrency` keys run at once, in the order in which they were queued.
 * - The delay before a retry doubles with each failure in a row, up to `longestRetryMs`, and is spread by up to a fifth.
 */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #queued = new Set<string>();
  readonly #running = new Map<string, { again: boolean }>();
  readonly #waiting = new Map<string, Timer>();
  readonly #failures = new Map<string, number>();
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** To be reconciled as soon as possible. */
  add(key: string): void {
    if (this.#stopped) return;
    this.#unschedule(key);
    const running = this.#running.get(key);
    if (running) running.again = true;
    else this.#queued.add(key);
    this.#startNext();
  }

  /** Takes nothing on any more; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#waiting.values()) timer.cancel();
    this.#waiting.clear();
    this.#queued.clear();
    if (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #unschedule(key: string): void {
    this.#waiting.get(key)?.cancel();
    this.#waiting.delete(key);
  }

  #startNext(): void {
    const { metrics, name, concurrency } = this.#options;
    for (const key of this.#queued) {
      if (this.#running.size >= concurrency) break;
      this.#queued.delete(key);
      this.#running.set(key, { again: false });
      void this.#run(key);
    }
    metrics.queued(name, this.#queued.size);
  }

  async #run(key: string): Promise<void> {
    const result = await this.#reconcile(key);
    const again = this.#running.get(key)?.again ?? false;
    this.#running.delete(key);
    if (this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
    if (this.#stopped) return;
    this.#countFailures(key, result);
    if (again) this.#queued.add(key);
    else this.#schedule(key, result);
    this.#startNext();
  }

  async #reconcile(key: string): Promise<Result> {
    const { name, reconcile, log, metrics, clock } = this.#options;
    const startMs = clock.monotonicMs();
    const seconds = () => (clock.monotonicMs() - startMs) / 1000;
    try {
      const result = await reconcile(key);
      metrics.reconciled(name, result.type === 'failed' ? 'retry' : 'done', seconds());
      return result;
    } catch (error) {
      metrics.reconciled(name, 'error', seconds());
      log.error({ key, error: errorMessage(error) }, 'could not reconcile; it is tried again');
      return { type: 'failed' };
    }
  }

  #countFailures(key: string, result: Result): void {
    if (result.type === 'failed') this.#failures.set(key, (this.#failures.get(key) ?? 0) + 1);
    else this.#failures.delete(key);
  }

  #schedule(key: string, result: Result): void {
    if (result.type === 'done') return;
    const delayMs = result.type === 'again' ? result.afterMs : this.#retryDelayMs(key);
    const isExact = result.type === 'again' && result.exactly === true;
    const spreadMs = isExact ? delayMs : delayMs * (0.9 + this.#options.random() / 5);
    this.#waiting.set(
      key,
      this.#options.clock.after(spreadMs, () => {
        this.#waiting.delete(key);
        this.add(key);
      }),
    );
  }

  #retryDelayMs(key: string): number {
    const { firstRetryMs = 500, longestRetryMs = 60_000 } = this.#options;
    return Math.min(longestRetryMs, firstRetryMs * 2 ** ((this.#failures.get(key) ?? 1) - 1));
  }
}
