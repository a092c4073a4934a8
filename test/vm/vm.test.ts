import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { machineImpossible, runInMachine, stage } from './machine.ts';

const impossible = process.getuid?.() === 0 ? machineImpossible() : 'needs root: the guest reads this machine as root';
const timeLimitSeconds = 900;

/** One boot for all: what is told in attach.ts is looked at here. */
describe.skipIf(impossible)(`in a kernel with nbd${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let directory: string;
  let results: Record<string, string | null> = {};
  let output = '';

  beforeAll(
    async () => {
      directory = mkdtempSync(join(tmpdir(), 'understudy-vm-'));
      const out = join(directory, 'out');
      const staged = join(directory, 'staged');
      await stage(staged);
      await runInMachine('attach', { staged, out, seconds: timeLimitSeconds });
      output = readFileSync(join(out, 'output'), 'utf8');
      results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
    },
    (timeLimitSeconds + 120) * 1000,
  );

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test.each([
    ['survives', 'fio on a mounted volume goes on when the agent is killed and started again, and verifies'],
    ['snapshot', 'a volume with 4096-byte blocks and its snapshot, read-only, stay mounted over a restart'],
    ['fenced', 'a volume that was promoted elsewhere meanwhile loses its device, and what waited fails'],
    ['grows', 'a volume grows while fio writes to what is mounted on it, and its filesystem after it'],
    ['pressure', 'what writes to a volume, in a control group with less memory than is written, ends and verifies'],
    ['driver', 'detaching, reconnecting and cutting leave nothing, and never wait'],
  ])('%s: %s', (story) => {
    expect(results[story], output).toBe(null);
  });
});
