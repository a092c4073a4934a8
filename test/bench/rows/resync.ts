import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';
import type { Measured, Row } from '../row.ts';
import { fill } from '../stacks/fill.ts';
import { createMirrored, startPair, type untilInSync } from '../stacks/mirrored.ts';

/** Of the volume that is written while the standby is away, one part in so many. */
const writtenPart = 16;

interface Outage {
  /** Bytes that differed by the primary's account when the standby came back. */
  readonly dirtyBytes: number;
  /** Bytes of the resync by the primary's account. */
  readonly copiedBytes: number;
  /** Bytes that the primary's process gave to write calls from the return of the standby to InSync: nearly all of them to the link. */
  readonly sentBytes: number;
}

/** Writes random blocks while the standby is away, and has it come back. */
async function measureOutages(bench: Bench, signal: 'SIGTERM' | 'SIGKILL'): Promise<Measured> {
  const { volumeBytes, rounds } = bench.options;
  const pair = await startPair(bench);
  const volume = await createMirrored(pair, 'vol', volumeBytes, { onLoss: 'continue' });
  const { primary, standby, name } = volume;
  // One of the processes comes and goes, so their time is not measured.
  const target = { ...volume.target, pids: () => [] };
  await fill(bench, target);
  const writtenBytes = volumeBytes / writtenPart;
  const load = { pattern: 'randwrite', blockBytes: 4096, depth: 32, endFlush: true } as const;
  const amount = { bytes: writtenBytes, rangeBytes: volumeBytes };
  const ours: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await bench.fio('before', 1000 + round, target, { ...load, ...amount });
    await standby.stop(signal);
    const isAlone = async () => (await primary.mirror(name)).state === 'Outdated';
    await waitFor(isAlone, { timeoutMs: 60_000, what: 'the standby to be outdated' });
    await bench.fio('during', round, target, { ...load, ...amount });
    const outage = await returnOf(standby.start.bind(standby), primary, name);
    bench.sample('ours', round, { writtenBytes, ...outage });
    ours.push(outage.copiedBytes / writtenBytes);
    bench.progress(`round ${round + 1}: ${JSON.stringify(outage)} of ${writtenBytes} written`);
  }
  return { unit: '× written', ours, notes: ['lower is better'] };
}

async function returnOf(
  startStandby: () => Promise<void>,
  primary: Parameters<typeof untilInSync>[0],
  volume: string,
): Promise<Outage> {
  const { dirtyBytes } = await primary.mirror(volume);
  const sentBefore = primary.writtenBytes();
  let copiedBytes = 0;
  const starting = startStandby();
  const isInSync = async () => {
    const { state, resync } = await primary.mirror(volume);
    copiedBytes = Math.max(copiedBytes, resync?.copiedBytes ?? 0);
    return state === 'InSync';
  };
  await waitFor(isInSync, { timeoutMs: 300_000, intervalMs: 2, what: 'the standby to be in sync again' });
  const sentBytes = primary.writtenBytes() - sentBefore;
  await starting;
  // The last answer before InSync may have been given some time before the end.
  return { dirtyBytes, copiedBytes: Math.max(copiedBytes, dirtyBytes), sentBytes };
}

export const resyncRows: readonly Row[] = [
  {
    name: 'resync',
    what: 'bytes copied after an orderly restart of the standby, random 4 KiB writes meanwhile',
    bar: { atMost: 1.2 },
    measure: (bench) => measureOutages(bench, 'SIGTERM'),
  },
  {
    name: 'resync-killed',
    what: 'the same after SIGKILL of the standby',
    bar: { atMost: 1.2 },
    measure: (bench) => measureOutages(bench, 'SIGKILL'),
  },
];
