import { describe, expect, test } from 'vitest';
import { failedSeeds } from './failed-seeds.ts';
import { runSeed } from './run-seed.ts';
import { defects } from './variants.ts';

/** Beside the seeds that once failed; `npm run simulate` runs as many others as there is time for. */
const committedSeeds = Array.from({ length: 20 }, (_, index) => 5000 + index);
/** A defect need not show in every history. */
const seedsPerDefect = 40;

describe('a history that once showed a defect', () => {
  test.each(failedSeeds)('seed $seed: $defect', async ({ seed }) => {
    expect((await runSeed(seed)).violations).toEqual([]);
  });
});

test.each(committedSeeds)('seed %i keeps every invariant', async (seed) => {
  expect((await runSeed(seed)).violations).toEqual([]);
});

test('the same seed is the same history', async () => {
  const [first, second] = [await runSeed(5001), await runSeed(5001)];
  expect(second.digest).toBe(first.digest);
  expect(first.events).toBeGreaterThan(10);
});

describe('a defect that is built in on purpose is found', () => {
  test.each(Object.entries(defects))('%s', async (_, variant) => {
    let found: readonly string[] = [];
    for (let seed = 1; seed <= seedsPerDefect && found.length === 0; seed += 1) {
      found = (await runSeed(seed, { variant })).violations;
    }
    expect(found).not.toEqual([]);
  });
});
