import { expect, test } from 'vitest';
import { RateLimit } from '../../../agent/mirror/rate-limit.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const never = new AbortController().signal;
const kibibyte = 1024;

/** Lets time pass until `bytes` have gone through in pieces; says how much was needed. */
async function timeFor(limit: RateLimit, clock: ManualClock, bytes: number, pieceBytes: number): Promise<number> {
  const startMs = clock.monotonicMs();
  let done = false;
  const working = (async () => {
    for (let sent = 0; sent < bytes; sent += pieceBytes) await limit.take(pieceBytes, never);
    done = true;
  })();
  for (;;) {
    await new Promise(setImmediate);
    if (done) break;
    clock.advance(1);
  }
  await working;
  return clock.monotonicMs() - startMs;
}

test.each([4, 64, 512])('keeps the rate in the long run, in pieces of %i KiB', async (pieceKiB) => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, 256 * kibibyte);
  const ms = await timeFor(limit, clock, 1024 * kibibyte, pieceKiB * kibibyte);
  // The last piece is let through on credit.
  const atLeastMs = (1024 - pieceKiB) * 4;
  expect(ms).toBeGreaterThanOrEqual(atLeastMs - 150);
  expect(ms).toBeLessThanOrEqual(4096 + 150);
});

test('a pause is worth no more than a short burst', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, 1000);
  clock.advance(3_600_000);
  expect(await timeFor(limit, clock, 2000, 10)).toBeGreaterThan(1_800);
});

test('without a rate nothing waits, and a change holds for whoever waits', async () => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, undefined);
  expect(limit.take(2 ** 40, never)).toBeUndefined();
  limit.change(1);
  expect(limit.take(1_000_000, never)).toBeUndefined();
  const waiting = limit.take(1, never);
  expect(waiting).toBeDefined();
  limit.change(undefined);
  clock.advance(1000);
  await waiting;
});

test('whoever waits stops when the signal aborts', async () => {
  const limit = new RateLimit(new ManualClock(), 1);
  const end = new AbortController();
  expect(limit.take(1_000_000, end.signal)).toBeUndefined();
  const waiting = limit.take(1, end.signal);
  end.abort(new Error('the link is down'));
  await expect(waiting).rejects.toThrow('the link is down');
});
