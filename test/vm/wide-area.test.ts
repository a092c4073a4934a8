import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { machineImpossible, runInMachine, stage } from './machine.ts';

const impossible = process.getuid?.() === 0 ? machineImpossible() : 'needs root: the guest reads this machine as root';
const timeLimitSeconds = 900;

/** One boot for all: what is told in wide-area.ts is looked at here. Its figures are printed, not judged. */
describe.skipIf(impossible)(`over a line that loses packets${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let directory: string;
  let results: Record<string, string | null> = {};
  let output = '';

  beforeAll(
    async () => {
      directory = mkdtempSync(join(tmpdir(), 'understudy-vm-'));
      const out = join(directory, 'out');
      const staged = join(directory, 'staged');
      await stage(staged);
      await runInMachine('wide-area', { staged, out, seconds: timeLimitSeconds });
      output = readFileSync(join(out, 'output'), 'utf8');
      results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
      for (const line of output.split('\n')) if (line.startsWith('wide area:')) console.log(line);
    },
    (timeLimitSeconds + 120) * 1000,
  );

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test.each([
    ['synchronous', 'a synchronous mirror is written through over 20 ms'],
    ['cubic', 'an asynchronous mirror catches up over 200 ms, 10 Mbit/s and 1 % loss, and is equal'],
    ['bbr', 'the same with BBR'],
  ])('%s: %s', (story) => {
    expect(results[story], output).toBe(null);
  });
});
