/**
 * How the operator does with many objects: a process of its own; an API in memory and simulated agents are in this one.
 *
 *   npm run bench:scale -- --volumes 1000 --snapshots 10 --delay 2
 *
 * Prints one row for each quantity, with its limit, and ends with status 1 if one is beyond it. Memory is what the operator's
 * process has resident. Takes some minutes, of which one is spent on watching the operator do nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ScaleRig } from './scale-rig.ts';

const { values } = parseArgs({
  options: {
    volumes: { type: 'string', default: '1000' },
    snapshots: { type: 'string', default: '10' },
    /** Of an agent's answers, in milliseconds. */
    delay: { type: 'string', default: '2' },
    changes: { type: 'string', default: '50' },
    idleSeconds: { type: 'string', default: '60' },
  },
});
const size = { volumes: Number(values.volumes), snapshotsOfEach: Number(values.snapshots) };
const rig = await ScaleRig.start(size, Number(values.delay));

interface Row {
  readonly what: string;
  readonly measured: string;
  readonly limit: string;
  readonly isWithin: boolean;
}
const rows: Row[] = [];
const noLimit = { limit: '', isWithin: true };
const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
const seconds = (ms: number) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

await rig.prepare();
const volumesMs = await rig.bringUpVolumes();
rows.push({
  what: `${size.volumes} volumes with a mirror each, from nothing to in sync`,
  measured: seconds(volumesMs),
  ...noLimit,
});
const snapshotsMs = await rig.bringUpSnapshots();
const snapshots = size.volumes * size.snapshotsOfEach;
rows.push({ what: `${snapshots} snapshots, from nothing to ready`, measured: seconds(snapshotsMs), ...noLimit });

await rig.settle();
const idleMs = Number(values.idleSeconds) * 1000;
const idle = await rig.watch(() => sleep(idleMs));
const perMinute = (count: number) => Math.round((count * 60_000) / idleMs);
rows.push({
  what: 'requests to the API server in a minute in which nothing happens',
  measured: `${perMinute(idle.apiRequests)}`,
  limit: '< 100',
  isWithin: perMinute(idle.apiRequests) < 100,
});
rows.push({ what: 'requests to agents in that minute', measured: `${perMinute(idle.agentRequests)}`, ...noLimit });
rows.push({ what: 'processor time in that minute', measured: seconds((idle.cpuMs * 60_000) / idleMs), ...noLimit });

const changes: number[] = [];
for (let index = 0; index < Number(values.changes); index += 1) changes.push(await rig.change(index));
changes.sort((a, b) => a - b);
const median = changes[Math.floor(changes.length / 2)] ?? Number.POSITIVE_INFINITY;
rows.push({
  what: 'from a change of a mirror to its status saying that it is done, median',
  measured: seconds(median),
  limit: '< 1 s',
  isWithin: median < 1000,
});
rows.push({ what: 'the slowest of these', measured: seconds(changes.at(-1) ?? 0), ...noLimit });
const memoryLimit = 300 * 2 ** 20;
const addMemory = (what: string, bytes: number) => {
  rows.push({ what, measured: mebibytes(bytes), limit: '< 300 MiB', isWithin: bytes < memoryLimit });
};
addMemory('memory of the operator that has made all of this', rig.usage().residentBytes);
addMemory('the most it ever had', rig.usage().peakBytes);
await rig.restartOperator();
await rig.settle();
addMemory('memory of an operator that finds all of this at its start', rig.usage().residentBytes);
addMemory('the most that one ever had', rig.usage().peakBytes);
await rig.stop();

console.log('| what | measured | limit |\n| --- | --- | --- |');
for (const { what, measured, limit, isWithin } of rows) {
  console.log(`| ${what} | ${measured}${isWithin ? '' : ' (beyond the limit)'} | ${limit} |`);
}
process.exitCode = rows.every(({ isWithin }) => isWithin) ? 0 : 1;
