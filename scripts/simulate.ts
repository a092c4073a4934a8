/** Runs the simulation: `npm run simulate -- [--seeds N] [--seed S] [--trace]
 * [--follower none|primary|cascade] [--attacks yes|no]`. */
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
    attacks: { type: 'string' },
  },
});

const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const count = values.seed === undefined || process.argv.includes('--seeds') ? Number(values.seeds) : 1;
/** Says how far it is, each so many seeds. */
const eachShown = 1_000;
let failed = 0;
let operations = 0;
let restores = 0;
let forced = 0;
const startedMs = performance.now();
for (let seed = first; seed < first + count; seed += 1) {
  const result = await runSeed(seed, {
    follower: follower(values.follower),
    attacks: values.attacks === undefined ? undefined : values.attacks === 'yes',
    ...(values.trace ? { show: (line: string) => console.log(line) } : {}),
  });
  operations += result.operations;
  restores += result.restores;
  forced += result.forced;
  if ((seed - first) % eachShown === eachShown - 1) say(seed - first + 1);
  if (count === 1)
    console.log(`seed ${seed}: digest ${result.digest}, ${result.events} events, epoch ${result.epochs}`);
  if (result.violations.length === 0) continue;
  failed += 1;
  console.log(`seed ${seed} fails; replay it with: npm run simulate -- --seed ${seed} --trace`);
  for (const violation of result.violations.slice(0, 3)) console.log(`  ${violation}`);
}
say(count);
process.exitCode = failed > 0 ? 1 : 0;

function say(seeds: number): void {
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const what = `${operations} operations, ${restores} restores, ${forced} forced promotions`;
  console.log(`${seeds} seeds, ${what}, ${failed} failed, ${seconds} s`);
}
