import { expect, test } from 'vitest';
import { Revival } from '../../../agent/volume/revival.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('a thread that dies again and again is started later and later, and at once again when it has run for long', () => {
  const clock = new ManualClock();
  const revival = new Revival(clock);
  const waits = Array.from({ length: 8 }, () => revival.died());
  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  clock.advance(6 * 60_000);
  expect(revival.died()).toBe(1000);
});
