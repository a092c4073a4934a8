/** Runs the simulation: `npm run simulate -- [--seeds N] [--seed S] [--trace]`. */
import { parseArgs } from 'node:util';
import { runSeed } from '../test/simulation/run-seed.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
});

const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const count = values.seed === undefined || process.argv.includes('--seeds') ? Number(values.seeds) : 1;
let failed = 0;
let operations = 0;
const startedMs = performance.now();
for (let seed = first; seed < first + count; seed += 1) {
  const result = await runSeed(seed, values.trace ? { show: (line) => console.log(line) } : {});
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
