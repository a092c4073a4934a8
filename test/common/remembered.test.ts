import { expect, test } from 'vitest';
import { remembered } from '../../common/remembered.ts';

test('what was answered is not computed again, until a thousand others were', () => {
  const asked: string[] = [];
  const joined = remembered((a: string, b: string) => {
    asked.push(a + b);
    return a + b;
  });
  expect([joined('a', 'bc'), joined('ab', 'c'), joined('a', 'bc')]).toEqual(['abc', 'abc', 'abc']);
  expect(asked).toHaveLength(2);
  for (let n = 0; n < 1000; n += 1) joined('n', String(n));
  joined('a', 'bc');
  expect(asked).toHaveLength(1003);
});
