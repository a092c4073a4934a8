/** The demo's beginning and end; what happens in between stands in full-demo.ts and reduced-demo.ts. */
import { once } from 'node:events';
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

const interrupted = interruption();
const report = new Report(interrupted);
const cleanup = new Cleanup();
const stage: Stage = { report, cleanup, interrupted, folder: makeFolder(cleanup) };

/** Plays the demo, and resolves with how to look around afterwards. */
async function play(): Promise<string> {
  await moveTo('node-a');
  report.note(`Everything is below ${stage.folder}; each node has a processor core of its own if there are two.`);
  if (isRoot && findPostgres()) return fullDemo(stage);
  report.note('Not root, or no PostgreSQL: nothing is mounted, and whole images take the place of the database.');
  return reducedDemo(stage);
}

/** Waits for the end of the demo, or for an interruption; returns why it did not get to its end, if so. */
async function failureOf(playing: Promise<unknown>): Promise<string | undefined> {
  const interruption = once(interrupted, 'abort').then(() => interrupted.throwIfAborted());
  try {
    await Promise.race([playing, interruption]);
    return undefined;
  } catch (error) {
    if (!interrupted.aborted) showLogs();
    return errorMessage(error);
  }
}

async function keepRunning(lookAround: string): Promise<void> {
  report.note(`\nLeft running. To look around, in another terminal:\n\n${lookAround}\n\nCtrl-C ends it and cleans up.`);
  // Waiting for a signal does not keep the process alive.
  const alive = setInterval(() => {}, 1_000);
  await once(interrupted, 'abort');
  clearInterval(alive);
}

/** What still runs of the demo after an interruption ends by itself once what it works with is gone. */
async function takeDown(playing: Promise<unknown>): Promise<boolean> {
  const first = await cleanup.run();
  await Promise.race([playing.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 10_000))]);
  return (await cleanup.run()) && first;
}

async function leftBehind(): Promise<string[]> {
  const devices = isRoot ? await loopDevicesOf(stage.folder) : [];
  return [
    ...mountsBelow(stage.folder),
    ...devices.map(({ device }) => device),
    ...processesNaming(stage.folder).map((pid) => `process ${pid}`),
  ];
}

/** The ends of all logs, before they are removed with the folder. */
function showLogs(): void {
  for (const log of globSync(`${stage.folder}/**/*.log`)) {
    report.note(`The end of ${log}:\n${readFileSync(log, 'utf8').trim().split('\n').slice(-10).join('\n')}`);
  }
}

const playing = play();
const failure = await failureOf(playing);
if (flags.keep && failure === undefined) await keepRunning(await playing);
report.note('Taking everything down.');
const complete = await takeDown(playing);
const left = await leftBehind();
report.check('Nothing is left behind', complete && left.length === 0, left.join(', ') || 'no process, mount or folder');
process.exit(report.finish(failure) ? 0 : 1);
