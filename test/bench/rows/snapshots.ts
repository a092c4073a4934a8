import type { Bench } from '../bench-context.ts';
import { compare, type Side } from '../compare.ts';
import type { Load, Target } from '../fio.ts';
import type { Row } from '../row.ts';
import {
  deleteSnapshots,
  dropSnapshots,
  type MirroredVolume,
  mirroredVolume,
  takeSnapshot,
} from '../stacks/mirrored.ts';
import { qemuPair, startFleecing, stopFleecing } from '../stacks/qemu-pair.ts';

const depth = 32;

/**
 * Overwrites right after a snapshot, as many as the volume has chunks of 64 KiB: each in a place of its own, so that most
 * of them meet a chunk that has to be preserved first. Not a length of time, in which the faster side would have fewer of
 * them on average. Ends with a flush, so that what the standby has not applied yet counts.
 */
function overwrites(bench: Bench): Omit<Load, 'seed'> {
  const { volumeBytes } = bench.options;
  const bytes = (volumeBytes / (64 * 1024)) * 4096;
  return { pattern: 'randwrite', blockBytes: 4096, depth, bytes, rangeBytes: volumeBytes, endFlush: true };
}

export async function overwrite(bench: Bench, side: string, round: number, target: Target): Promise<number> {
  return (await bench.fio(side, round, target, overwrites(bench))).operationsPerSecond;
}

function withSnapshots(bench: Bench, side: string, volume: MirroredVolume, count: number): Side {
  return async (round) => {
    for (let index = 0; index < count; index += 1) {
      await takeSnapshot(volume, `s${index}`);
      // Something of its own for each but the newest.
      if (index < count - 1) await bench.fio(`${side} before`, 1000 + index, volume.target, someWrites(bench));
    }
    const figure = await overwrite(bench, side, round, volume.target);
    await deleteSnapshots(volume);
    return figure;
  };
}

function someWrites(bench: Bench): Omit<Load, 'seed'> {
  return { ...overwrites(bench), bytes: 256 * 4096 };
}

export const snapshotRows: readonly Row[] = [
  {
    name: 'snapshot-1',
    what: 'random 4 KiB overwrites, depth 32, with 1 snapshot on the standby',
    against: 'the pair of qemu-storage-daemons with 1 fleecing backup (sync=none) on the standby',
    bar: { atLeast: 1.5 },
    measure: async (bench) => {
      const volume = await mirroredVolume(bench);
      await dropSnapshots(volume);
      const pair = await qemuPair(bench);
      return compare(bench, 'IOPS', withSnapshots(bench, 'ours', volume, 1), async (round) => {
        await startFleecing(bench, pair);
        const figure = await overwrite(bench, 'theirs', round, pair.target);
        await stopFleecing(bench, pair);
        return figure;
      });
    },
  },
  {
    name: 'snapshots-32',
    what: 'random 4 KiB overwrites, depth 32, with 32 overlapping snapshots on the standby',
    against: 'our own with 1 snapshot',
    bar: { atLeast: 0.9 },
    measure: async (bench) => {
      const volume = await mirroredVolume(bench);
      await dropSnapshots(volume);
      return compare(
        bench,
        'IOPS',
        withSnapshots(bench, 'ours', volume, 32),
        withSnapshots(bench, 'theirs', volume, 1),
      );
    },
  },
];
