import { expect, test } from 'vitest';
import { BackgroundPace } from '../../../agent/nbd/background-pace.ts';

/** A client that reads as long as it may, and waits then. */
function reader(pace: BackgroundPace, bytes: number, reads: string[], name: string): void {
  while (!pace.spent) {
    reads.push(name);
    pace.spend(bytes);
  }
  pace.wait(() => reader(pace, bytes, reads, name));
}

test('clients share what may be read in one turn, and take turns', () => {
  const turns: (() => void)[] = [];
  const pace = new BackgroundPace({ bytesPerTurn: 100, nextTurn: (callback) => turns.push(callback) });
  const reads: string[] = [];
  for (const name of ['a', 'b', 'c']) reader(pace, 60, reads, name);
  for (let turn = 0; turn < 3; turn += 1) turns.shift()?.();
  expect(reads.join('')).toBe('aaaabbcc');
  expect(turns).toHaveLength(1);
});

test('one request always fits', () => {
  const turns: (() => void)[] = [];
  const pace = new BackgroundPace({ bytesPerTurn: 100, nextTurn: (callback) => turns.push(callback) });
  pace.spend(1000);
  expect(pace.spent).toBe(true);
  turns.shift()?.();
  expect(pace.spent).toBe(false);
});
