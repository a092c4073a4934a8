import { expect, test } from 'vitest';
import { SystemCommands } from '../../../agent/attach/commands.ts';
import { filesystemUsage, parseUsage } from '../../../agent/attach/filesystem-usage.ts';
import { systemClock } from '../../../common/clock.ts';

test('bytes and inodes', () => {
  expect(parseUsage('4096 1000 700 750 500 499\n')).toEqual([
    { unit: 'BYTES', total: 4_096_000, available: 2_867_200, used: 1_024_000 },
    { unit: 'INODES', total: 500, available: 499, used: 1 },
  ]);
});

test('a filesystem without a fixed number of inodes tells bytes alone', () => {
  expect(parseUsage('4096 1000 700 750 0 0\n').map(({ unit }) => unit)).toEqual(['BYTES']);
});

test('what the program of this machine answers is understood', async () => {
  const [bytes] = await filesystemUsage(new SystemCommands({ clock: systemClock }), '/');
  expect(bytes?.total).toBeGreaterThan(0);
  expect(() => parseUsage('stat: cannot read')).toThrow(/stat/);
});
