import { beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../../common/log.ts';
import { noMetrics } from '../../../operator/controllers/metrics.ts';
import { type Result, WorkQueue } from '../../../operator/controllers/work-queue.ts';
import { ManualClock } from '../../support/manual-clock.ts';

let clock: ManualClock;
/** Keys in the order in which their reconciliation began. */
let begun: string[];
/** What ends the reconciliations under way, by key. */
let open: Map<string, PromiseWithResolvers<Result>>;

beforeEach(() => {
  clock = new ManualClock();
  begun = [];
  open = new Map();
});

function queueOf(concurrency = 2): WorkQueue {
  return new WorkQueue({
    name: 'test',
    clock,
    // In the middle: no spread.
    random: () => 0.5,
    log: silentLog,
    metrics: noMetrics,
    concurrency,
    firstRetryMs: 100,
    longestRetryMs: 1000,
    reconcile: (key) => {
      begun.push(key);
      const result = Promise.withResolvers<Result>();
      open.set(key, result);
      return result.promise;
    },
  });
}

async function end(key: string, result: Result | Error): Promise<void> {
  const running = open.get(key);
  open.delete(key);
  if (result instanceof Error) running?.reject(result);
  else running?.resolve(result);
  await settle();
}

/** Lets everything that waits for nothing but promises happen. */
async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

const done: Result = { type: 'done' };

test('a key that is added often while it waits runs once', async () => {
  const queue = queueOf(1);
  for (const key of ['a', 'b', 'b', 'a', 'b']) queue.add(key);
  expect(begun).toEqual(['a']);
  await end('a', done);
  expect(begun).toEqual(['a', 'b']);
  await end('b', done);
  // "a" was added again while it ran.
  expect(begun).toEqual(['a', 'b', 'a']);
  await end('a', done);
  expect(begun).toHaveLength(3);
});

test('a key never runs twice at once, other keys do', async () => {
  const queue = queueOf(3);
  queue.add('a');
  queue.add('a');
  queue.add('b');
  expect(begun).toEqual(['a', 'b']);
  await end('a', done);
  expect(begun).toEqual(['a', 'b', 'a']);
});

test('no more keys run at once than allowed', async () => {
  const queue = queueOf(2);
  for (const key of ['a', 'b', 'c', 'd']) queue.add(key);
  expect(begun).toEqual(['a', 'b']);
  await end('b', done);
  expect(begun).toEqual(['a', 'b', 'c']);
});

test('a key that asks for it is looked at again after that time', async () => {
  const queue = queueOf();
  queue.add('a');
  await end('a', { type: 'again', afterMs: 30_000 });
  clock.advance(29_999);
  expect(begun).toEqual(['a']);
  clock.advance(1);
  expect(begun).toEqual(['a', 'a']);
});

test('each failure in a row doubles the delay, up to the longest; a success starts over', async () => {
  const queue = queueOf();
  queue.add('a');
  for (const delayMs of [100, 200, 400, 800, 1000, 1000]) {
    const runs = begun.length;
    await end('a', { type: 'failed' });
    clock.advance(delayMs - 1);
    expect(begun).toHaveLength(runs);
    clock.advance(1);
    expect(begun).toHaveLength(runs + 1);
  }
  await end('a', done);
  queue.add('a');
  await end('a', { type: 'failed' });
  clock.advance(100);
  expect(open.has('a')).toBe(true);
});

test('an exception is a failure', async () => {
  const queue = queueOf();
  queue.add('a');
  await end('a', new Error('a defect'));
  clock.advance(100);
  expect(begun).toEqual(['a', 'a']);
});

test('a change does not wait for the next look', async () => {
  const queue = queueOf();
  queue.add('a');
  await end('a', { type: 'again', afterMs: 30_000 });
  queue.add('a');
  expect(begun).toEqual(['a', 'a']);
  await end('a', done);
  clock.advance(60_000);
  expect(begun).toEqual(['a', 'a']);
});

test('stopping waits for what runs, and starts nothing any more', async () => {
  const queue = queueOf(1);
  queue.add('a');
  queue.add('b');
  let stopped = false;
  const stopping = queue.stop().then(() => {
    stopped = true;
  });
  await settle();
  expect(stopped).toBe(false);
  await end('a', { type: 'again', afterMs: 1 });
  await stopping;
  queue.add('c');
  clock.advance(10);
  expect(begun).toEqual(['a']);
  expect(clock.pendingTimers).toBe(0);
});
