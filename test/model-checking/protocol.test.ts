import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isInstalled } from '../support/programs.ts';
import { tables } from './tables.ts';

const run = promisify(execFile);
const here = import.meta.dirname;
const missing = ['spin', 'gcc'].filter((program) => !isInstalled(program));
if (missing.length === 0 && !existsSync('/usr/include/stdio.h')) missing.push('the headers of libc6-dev');
const impossible = missing.length === 0 ? undefined : `missing: ${missing.join(', ')}`;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-model-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Verdict {
  readonly states: number;
  readonly violated: string | undefined;
  /** Every state that can be reached has been looked at. */
  readonly exhaustive: boolean;
}

/** Looks at every state of the model, up to the first in which an assertion does not hold. */
async function explore(...defines: readonly string[]): Promise<Verdict> {
  const cwd = join(directory, defines.join('-'));
  await cp(here, cwd, { recursive: true });
  const spin = await run('spin', ['-a', ...defines.map((define) => `-D${define}`), 'protocol.pml'], { cwd });
  expect(spin.stdout).not.toMatch(/error/i);
  await run('gcc', ['-O2', '-w', '-DSAFETY', '-DMEMLIM=2000', '-o', 'pan', 'pan.c'], { cwd });
  const { stdout } = await run('./pan', ['-n', '-w23', '-m20000'], { cwd });
  const errors = Number(/errors: (\d+)/.exec(stdout)?.[1]);
  return {
    states: Number(/(\d+) states, stored/.exec(stdout)?.[1]),
    violated: /assertion violated (.*) \(at depth/.exec(stdout)?.[1],
    exhaustive: errors === 0 && !/max search depth too small|out of memory|Search not completed/i.test(stdout),
  };
}

test('the model decides as the code does', async () => {
  const written = await readFile(join(here, 'generated', 'tables.pml'), 'utf8');
  expect(written, 'run npm run generate').toBe(tables());
});

describe.skipIf(impossible)(`the protocol${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  test('two writes, three epochs: no two primaries acknowledge, and nothing that was acknowledged is lost', async () => {
    const { states, violated, exhaustive } = await explore('WRITES=2');
    expect({ violated, exhaustive }).toEqual({ violated: undefined, exhaustive: true });
    expect(states).toBeGreaterThan(1_000_000);
  });

  test('a volume can move to the other copy and back under writes: the model does something', async () => {
    expect((await explore('WRITES=2', 'REACH')).violated).toMatch(/given\[2\]/);
  });

  test('a promotion may accept a loss: of nothing but what its order names, and what was given up stays where it is', async () => {
    const { states, violated, exhaustive } = await explore('WRITES=1', 'FORCE');
    expect({ violated, exhaustive }).toEqual({ violated: undefined, exhaustive: true });
    expect(states).toBeGreaterThan(500_000);
  });

  test('something can be lost by it, also when the volume has moved before: the model does something', async () => {
    expect((await explore('WRITES=1', 'FORCE', 'REACH')).violated).toMatch(/operatorEpoch==3/);
  });

  test('a mirror may be dropped and taken on again', async () => {
    const { states, violated, exhaustive } = await explore('WRITES=1', 'DROP');
    expect({ violated, exhaustive }).toEqual({ violated: undefined, exhaustive: true });
    expect(states).toBeGreaterThan(50_000);
  });

  test.each([
    ['a copy that was given up returns as a standby like any other', ['FORCE', 'BROKEN_RETURN'], /own/],
    ['a primary that hears of a newer epoch goes on', ['FORCE', 'BROKEN_FENCE'], /knows/],
    ['a mirror is dropped without the arbiter having marked it', ['DROP', 'BROKEN_DROP'], /acknowledged|flushed/],
  ])('it is found when %s', async (_, defines, what) => {
    expect((await explore('WRITES=1', ...defines)).violated).toMatch(what);
  });

  test.each([
    ['a primary goes on alone when the arbiter does not answer', 'BROKEN_TIMEOUT'],
    ['a late swap is made whatever was swapped before it', 'BROKEN_SWAP'],
    ['a prepared standby goes on listening to its primary', 'BROKEN_PREPARE'],
    ['a standby that ended uncleanly is promoted', 'BROKEN_CLEAN'],
    ['a primary that restarts does not wait for its standby', 'BROKEN_GATE'],
    ['a standby confirms what it has not synced', 'BROKEN_CONFIRM'],
  ])('it is found when %s', async (_, broken) => {
    expect((await explore('WRITES=1', broken)).violated).toMatch(/acknowledged|flushed/);
  });
});
