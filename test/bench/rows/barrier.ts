import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bench } from '../bench-context.ts';
import { fioCommand, runFio } from '../fio.ts';
import type { Measured, Row } from '../row.ts';
import { fill } from '../stacks/fill.ts';
import { createMirrored, deleteSnapshots, type MirroredVolume, startPair, takeSnapshot } from '../stacks/mirrored.ts';
import { median, ratioOf } from '../statistics.ts';

const gibibyte = 1024 ** 3;
const snapshotsPerRound = 5;
/** What is written beside the snapshots; the same on both. */
const rangeBytes = 256 * 1024 * 1024;

interface SnapshotTimes {
  /** From the request to the answer, for each snapshot. */
  readonly takenMs: number[];
  /** The longest write that was under way at the time of any of them, and the longest at other times. */
  readonly stallMs: number;
  readonly otherMs: number;
}

/** Snapshots of a volume while something writes 4 KiB at a time. */
async function snapshotsUnderLoad(bench: Bench, volume: MirroredVolume, round: number): Promise<SnapshotTimes> {
  const latencyLog = join(bench.directory, volume.name);
  const shape = { pattern: 'randwrite', blockBytes: 4096, depth: 1, rangeBytes, seed: round + 1 } as const;
  const command = fioCommand(volume.target, { ...shape, seconds: snapshotsPerRound, latencyLog });
  bench.note(command);
  await bench.settle();
  const load = runFio(command);
  // Past fio's start.
  await pause(1000);
  const windows: { from: number; to: number }[] = [];
  const takenMs: number[] = [];
  for (let index = 0; index < snapshotsPerRound; index += 1) {
    const from = Date.now();
    const startedMs = performance.now();
    await takeSnapshot(volume, `s${index}`);
    takenMs.push(performance.now() - startedMs);
    windows.push({ from, to: Date.now() });
    await pause((1000 * (snapshotsPerRound - 1)) / snapshotsPerRound);
  }
  await load;
  const writes = await readLatencies(`${latencyLog}_lat.1.log`);
  await deleteSnapshots(volume);
  const times = { takenMs, ...stalls(writes, windows) };
  bench.sample(volume.name, round, times);
  return times;
}

interface Write {
  /** Milliseconds since 1970 of its completion. */
  readonly at: number;
  readonly latencyMs: number;
}

function stalls(writes: readonly Write[], windows: readonly { from: number; to: number }[]) {
  const during = ({ at, latencyMs }: Write) =>
    windows.some(({ from, to }) => at >= from - 1 && at - latencyMs <= to + 1);
  const longest = (some: readonly Write[]) => some.reduce((most, { latencyMs }) => Math.max(most, latencyMs), 0);
  const [inside, outside] = [writes.filter(during), writes.filter((write) => !during(write))];
  if (inside.length === 0) throw new Error('no write was under way while the snapshots were taken');
  return { stallMs: longest(inside), otherMs: longest(outside) };
}

/** Lines of fio's log: milliseconds, latency in nanoseconds, direction, size, … */
async function readLatencies(path: string): Promise<Write[]> {
  const text = await readFile(path, 'utf8');
  await rm(path);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [at, latencyNs] = line.split(',').map(Number);
      return { at: at ?? 0, latencyMs: (latencyNs ?? 0) / 1e6 };
    });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Both volumes, sparse, in one pair of agents; both rows are about the same snapshots. */
function measureBoth(bench: Bench): Promise<{ small: SnapshotTimes[]; large: SnapshotTimes[] }> {
  return bench.shared('snapshots under load', async () => {
    const pair = await startPair(bench);
    const volumes = {
      small: await createMirrored(pair, 'small', gibibyte, { provisioning: 'sparse' }),
      large: await createMirrored(pair, 'large', 1024 * gibibyte, { provisioning: 'sparse' }),
    };
    const times = { small: [] as SnapshotTimes[], large: [] as SnapshotTimes[] };
    for (const volume of Object.values(volumes)) await fill(bench, volume.target, rangeBytes);
    for (let round = 0; round < bench.options.rounds; round += 1) {
      for (const size of ['large', 'small'] as const) {
        times[size].push(await snapshotsUnderLoad(bench, volumes[size], round));
      }
    }
    return times;
  });
}

async function measureTime(bench: Bench): Promise<Measured> {
  const { small, large } = await measureBoth(bench);
  const medians = (times: readonly SnapshotTimes[]) => times.map(({ takenMs }) => median(takenMs));
  const [ours, theirs] = [medians(large), medians(small)];
  return { unit: 'ms', ours, theirs, ratio: ratioOf(ours, theirs), notes: ['lower is better'] };
}

async function measureStall(bench: Bench): Promise<Measured> {
  const { small, large } = await measureBoth(bench);
  const all = [...large, ...small];
  const other = Math.max(...all.map(({ otherMs }) => otherMs));
  const longest = Math.max(...all.map(({ stallMs }) => stallMs));
  return {
    unit: 'ms',
    ours: all.map(({ stallMs }) => stallMs),
    notes: [
      `lower is better; the median of the longest of each round; the longest of all ${longest.toFixed(1)} ms, and ${other.toFixed(1)} ms while no snapshot was taken`,
    ],
  };
}

export const barrierRows: readonly Row[] = [
  {
    name: 'snapshot-time',
    what: 'taking a snapshot of a mirrored volume of 1 TiB (sparse)',
    against: 'the same of 1 GiB',
    bar: { atMost: 1.25 },
    measure: measureTime,
  },
  {
    name: 'snapshot-stall',
    what: 'the longest 4 KiB write beside it, depth 1',
    bar: { atMost: 10 },
    measure: measureStall,
  },
];
