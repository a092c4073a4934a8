import { describe, expect, test } from 'vitest';
import { failedSeeds } from './failed-seeds.ts';
import { type RunResult, runSeed } from './run-seed.ts';
import { defects } from './variants.ts';

const freshBudgetMs = 120_000;
const mostFresh = 250;
/** Seeds tried until a built-in defect is found. */
const mostForDefect = 150;

function expectFine({ seed, violations, lastLines }: RunResult): void {
  const replay = `seed ${seed}; replay it with: npm run simulate -- --seed ${seed} --trace`;
  expect(violations, `${replay}\n${lastLines.slice(-15).join('\n')}`).toEqual([]);
}

describe('the copies of a volume, whatever fails', () => {
  test.each(failedSeeds)(
    'keep their promises in seed $seed, which once found: $defect',
    async ({ seed, follower, attacks }) => {
      expectFine(await runSeed(seed, { follower, attacks }));
    },
  );

  test('keep their promises in seeds never tried before', async () => {
    const first = Date.now() % 2 ** 31;
    const endMs = performance.now() + freshBudgetMs;
    let operations = 0;
    for (let seed = first; seed < first + mostFresh && performance.now() < endMs; seed += 1) {
      const result = await runSeed(seed);
      expectFine(result);
      operations += result.operations;
    }
    expect(operations).toBeGreaterThan(100);
  });

  test('take the same course each time that a seed is run', async () => {
    for (const seed of [11, 12, 13]) expect((await runSeed(seed)).digest).toBe((await runSeed(seed)).digest);
  });
});

describe('the checkers find it when', () => {
  test.each(Object.entries(defects))('%s', async (_, variant) => {
    const found: string[] = [];
    const first = variant.seed ?? 0;
    for (let seed = first; seed < first + mostForDefect && found.length === 0; seed += 1) {
      found.push(...(await runSeed(seed, { variant })).violations);
    }
    expect(found[0]).toMatch(/^invariant /);
  });
});
