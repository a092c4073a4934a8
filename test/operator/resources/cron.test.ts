import { expect, test } from 'vitest';
import { isTimeZone, parseCron } from '../../../operator/resources/cron.ts';

const at = (text: string) => Date.parse(text);
const shown = (ms: number | undefined) => ms && new Date(ms).toISOString();

test('the next time is after a moment, the last one at it or before', () => {
  const times = parseCron('*/15 * * * *', 'UTC');
  const quarter = at('2026-11-24T12:15:00Z');
  expect(shown(times?.next(quarter))).toBe('2026-11-24T12:30:00.000Z');
  expect(shown(times?.next(quarter - 1))).toBe('2026-11-24T12:15:00.000Z');
  expect(shown(times?.last(quarter))).toBe('2026-11-24T12:15:00.000Z');
  expect(shown(times?.last(quarter - 1))).toBe('2026-11-24T12:00:00.000Z');
});

test.each(['* * * *', '* * * * * *', '61 * * * *', '? * * * *', '@reboot', 'now', '', '2026-11-24T12:15:00Z'])(
  '"%s" is no pattern',
  (pattern) => expect(parseCron(pattern, 'UTC')).toBeUndefined(),
);

test.each(['@hourly', '0 2 * * MON-FRI', '0 0 L * *', '0 0 * * 5#2', '5,35 */2 1-7 JAN,JUL *'])(
  '"%s" is one',
  (pattern) => expect(parseCron(pattern, 'Europe/Berlin')?.next(0)).toBeGreaterThan(0),
);

test('a time in the gap of spring comes after it, one that autumn repeats comes once', () => {
  const times = parseCron('30 2 * * *', 'Europe/Berlin');
  expect(shown(times?.next(at('2026-03-28T12:00:00Z')))).toBe('2026-03-29T01:00:00.000Z');
  const autumn = times?.next(at('2026-10-24T12:00:00Z'));
  expect(shown(autumn)).toBe('2026-10-25T00:30:00.000Z');
  expect(shown(times?.next(autumn ?? 0))).toBe('2026-10-26T01:30:00.000Z');
});

test('a time zone is one that the time zone database knows', () => {
  expect([isTimeZone('Europe/Berlin'), isTimeZone('UTC'), isTimeZone('Moon/Base')]).toEqual([true, true, false]);
  expect(parseCron('@daily', 'Moon/Base')).toBeUndefined();
});
