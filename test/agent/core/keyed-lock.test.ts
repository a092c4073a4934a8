import { describe, expect, test } from 'vitest';
import { KeyedLock } from '../../../agent/core/keyed-lock.ts';

describe('KeyedLock', () => {
  test('runs tasks of one key one after the other in the order of asking, those of others meanwhile', async () => {
    const lock = new KeyedLock();
    const order: string[] = [];
    const first = Promise.withResolvers<void>();
    const task = (name: string, until?: Promise<void>) => async () => {
      order.push(`${name} begins`);
      await until;
      order.push(`${name} ends`);
    };
    const running = [lock.run('a', task('1', first.promise)), lock.run('a', task('2')), lock.run('a', task('3'))];
    await lock.run('b', task('other'));
    first.resolve();
    await Promise.all(running);
    const expected = ['1 begins', 'other begins', 'other ends', '1 ends', '2 begins', '2 ends', '3 begins', '3 ends'];
    expect(order).toEqual(expected);
  });

  test('a task that fails lets the next one run', async () => {
    const lock = new KeyedLock();
    const failing = lock.run('a', () => Promise.reject(new Error('failed')));
    const next = lock.run('a', async () => 'ran');
    await expect(failing).rejects.toThrow('failed');
    expect(await next).toBe('ran');
  });

  test('tryAcquire gets only what nobody holds or waits for', async () => {
    const lock = new KeyedLock();
    const release = lock.tryAcquire('a');
    expect(release).toBeDefined();
    expect(lock.tryAcquire('a')).toBeUndefined();
    expect(lock.tryAcquire('b')).toBeDefined();
    const waiting = lock.acquire('a');
    release?.();
    release?.();
    expect(lock.tryAcquire('a')).toBeUndefined();
    (await waiting)();
    expect(lock.tryAcquire('a')).toBeDefined();
  });
});
