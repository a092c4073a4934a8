/** The demo's beginning and end; what happens in between stands in full-demo.ts and reduced-demo.ts. */
import { globSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { errorMessage } from '../../../common/errors.ts';
import { findPostgres } from '../../../test/support/postgres.ts';
import { Cleanup, interruption } from './cleanup.ts';
import { moveTo } from './command.ts';
import { isRoot, loopDevicesOf, mountsBelow, processesNaming } from './disks.ts';
import { fullDemo } from './full-demo.ts';
import { reducedDemo } from './reduced-demo.ts';
import { Report } from './report.ts';
import { makeFolder, type Stage } from './stage.ts';

const { values: flags } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });

const report = new Report();
const cleanup = new Cleanup();
const stage: Stage = { report, cleanup, folder: makeFolder(cleanup) };
const interrupted = interruption();

async function play(): Promise<void> {
  await moveTo('node-a');
  report.note(`Everything is below ${stage.folder}; each node has a processor core of its own if there are two.`);
  if (!isRoot) report.note('Not root: nothing is mounted and PostgreSQL is left out. As root the demo shows it all.');
  const lookAround = isRoot && findPostgres() ? await fullDemo(stage) : await reducedDemo(stage);
  if (flags.keep) {
    report.note(`Left running. To look around, in another terminal:\n${lookAround}\nCtrl-C ends it and cleans up.`);
    await interrupted.catch(() => {});
  }
}

/** The ends of all logs, before they are removed with the folder. */
function showLogs(): void {
  for (const log of globSync(`${stage.folder}/**/*.log`)) {
    report.note(`The end of ${log}:\n${readFileSync(log, 'utf8').trim().split('\n').slice(-10).join('\n')}`);
  }
}

let failure: string | undefined;
try {
  await Promise.race([play(), interrupted]);
} catch (error) {
  failure = errorMessage(error);
  showLogs();
}
await report.step('Everything is taken down', async () => {
  const complete = await cleanup.run();
  const left = [
    ...mountsBelow(stage.folder),
    ...processesNaming(stage.folder).map((pid) => `process ${pid}`),
    ...(isRoot ? await loopDevicesOf(stage.folder) : []).map(({ device }) => device),
  ];
  report.check(
    'Nothing is left behind',
    complete && left.length === 0,
    left.join(', ') || 'no process, mount or folder',
  );
});
process.exit(report.finish(failure) ? 0 : 1);
