/** Measures this project beside its peers, in one run: `npm run bench -- [options]`, see docs/benchmarks.md. */
import { writeFile } from 'node:fs/promises';
import { errorMessage } from '../../common/errors.ts';
import { allRows } from './all-rows.ts';
import { Bench } from './bench-context.ts';
import { describeMachine, loadNow } from './machine.ts';
import { type BenchOptions, parseOptions, usage } from './options.ts';
import { markdown, type RowReport, reportOf } from './report.ts';
import type { Row } from './row.ts';

function selectRows({ rows }: BenchOptions): Row[] {
  if (!rows) return allRows.filter(({ onlyWhenNamed }) => !onlyWhenNamed);
  return rows.map((name) => {
    const row = allRows.find((candidate) => candidate.name === name);
    if (!row) throw new Error(`there is no row ${name}; there are ${allRows.map((known) => known.name).join(', ')}`);
    return row;
  });
}

/** One row that cannot be measured does not keep the others from it. */
async function measureRow(bench: Bench, row: Row): Promise<RowReport> {
  bench.beginRow(row.name);
  try {
    return reportOf(row, loadNow(), { measured: await row.measure(bench) });
  } catch (error) {
    bench.progress(errorMessage(error));
    return reportOf(row, loadNow(), { error: errorMessage(error) });
  } finally {
    await bench.endRow();
  }
}

async function runBench(options: BenchOptions): Promise<boolean> {
  const rows = selectRows(options);
  const bench = await Bench.create(options);
  const machine = await describeMachine(bench.directory);
  let interrupted = false;
  process.once('SIGINT', () => {
    interrupted = true;
    process.stderr.write('ends after this row\n');
  });
  const reports: RowReport[] = [];
  try {
    for (const row of rows) {
      if (interrupted) break;
      reports.push(await measureRow(bench, row));
    }
  } finally {
    await bench.end();
  }
  console.log(markdown(machine, reports));
  if (options.jsonFile !== undefined) {
    const commands = Object.fromEntries([...bench.commands].map(([row, noted]) => [row, [...noted]]));
    const all = { machine, options, rows: reports, samples: bench.samples, commands };
    await writeFile(options.jsonFile, `${JSON.stringify(all, null, 2)}\n`);
  }
  return reports.every(({ verdict }) => verdict !== 'failed');
}

try {
  const options = parseOptions(process.argv.slice(2));
  if (options.list) for (const { name, what } of allRows) console.log(`${name.padEnd(20)}${what}`);
  else if (!(await runBench(options))) process.exitCode = 1;
} catch (error) {
  process.stderr.write(`${errorMessage(error)}\n${usage}\n`);
  process.exitCode = 2;
}
