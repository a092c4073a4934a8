import { type Clock, delay } from '../../common/clock.ts';

export interface PollOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly intervalMs?: number;
}

/**
 * Asks again and again until the answer is not undefined, or until time is up: then it resolves with undefined, after
 * one last question. An exception of the question ends it at once.
 */
export async function poll<T>(options: PollOptions, question: () => Promise<T | undefined>): Promise<T | undefined> {
  const { clock, timeoutMs, intervalMs = 10 } = options;
  const deadline = clock.monotonicMs() + timeoutMs;
  for (;;) {
    const late = clock.monotonicMs() >= deadline;
    const answer = await question();
    if (answer !== undefined || late) return answer;
    await delay(clock, intervalMs);
  }
}
