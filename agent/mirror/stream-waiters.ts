import type { UnderstudyError } from '../../common/errors.ts';
import { barrierOutcome } from './barrier-outcome.ts';
import type { BarrierDone, BarrierRecord } from './messages.ts';

/**
 * Who waits for something that travels in the stream of an asynchronous mirror: for the answer to a barrier, or for the
 * sync of everything up to a position.
 */
export class StreamWaiters {
  readonly #barriers = new Map<string, { position: number; done: PromiseWithResolvers<BarrierRecord> }>();
  #syncs: { position: number; done: PromiseWithResolvers<void> }[] = [];

  /** The answer to the barrier at this position. */
  barrier(attempt: string, position: number): Promise<BarrierRecord> {
    const done = Promise.withResolvers<BarrierRecord>();
    this.#barriers.set(attempt, { position, done });
    return done.promise;
  }

  sync(position: number): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#syncs.push({ position, done });
    return done.promise;
  }

  barrierDone(answer: BarrierDone): void {
    const waiter = this.#barriers.get(answer.attempt);
    this.#barriers.delete(answer.attempt);
    if (!waiter) return;
    try {
      waiter.done.resolve(barrierOutcome(answer));
    } catch (error) {
      waiter.done.reject(error);
    }
  }

  synced(confirmed: number): void {
    this.#syncs = this.#syncs.filter(({ position, done }) => {
      if (position <= confirmed) done.resolve();
      return position > confirmed;
    });
  }

  /** The answers to the barriers up to `position` will not come. */
  failBarriers(error: UnderstudyError, upTo = Number.POSITIVE_INFINITY): void {
    for (const [attempt, { position, done }] of this.#barriers) {
      if (position > upTo) continue;
      this.#barriers.delete(attempt);
      done.reject(error);
    }
  }

  failSyncs(error: UnderstudyError): void {
    for (const { done } of this.#syncs.splice(0)) done.reject(error);
  }
}
