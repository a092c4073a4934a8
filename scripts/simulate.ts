/** Runs the simulation: `npm run simulate -- [--seeds N] [--seed S] [--trace]
 * [--follower none|primary|cascade]`. */
import { parseArgs } from 'node:util';
import { runSeed } from '../test/simulation/run-seed.ts';

const followers = ['none', 'primary', 'cascade'] as const;
const follower = (name: string | undefined) => followers.find((kind) => kind === name);

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    follower: { type: 'string' },
  },
});

const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const count = values.seed === undefined || process.argv.includes('--seeds') ? Number(values.seeds) : 1;
let failed = 0;
let operations = 0;
const startedMs = performance.now();
for (let seed = first; seed < first + count; seed += 1) {
  const result = await runSeed(seed, {
    follower: follower(values.follower),
    ...(values.trace ? { show: (line: string) => console.log(line) } : {}),
  });
  operations += result.operations;
  if (count === 1)
    console.log(`seed ${seed}: digest ${result.digest}, ${result.events} events, epoch ${result.epochs}`);
  if (result.violations.length === 0) continue;
  failed += 1;
  console.log(`seed ${seed} fails; replay it with: npm run simulate -- --seed ${seed} --trace`);
  for (const violation of result.violations.slice(0, 3)) console.log(`  ${violation}`);
}
const seconds = (performance.now() - startedMs) / 1000;
console.log(`${count} seeds, ${operations} operations, ${failed} failed, ${seconds.toFixed(1)} s`);
process.exitCode = failed > 0 ? 1 : 0;
