import type { Bench } from '../bench-context.ts';
import { onCore, run } from '../command.ts';
import { compare, type Side } from '../compare.ts';
import { type NbdTarget, nbdUri } from '../fio.ts';
import type { Row } from '../row.ts';
import {
  cores,
  deleteSnapshots,
  dropSnapshots,
  type MirroredVolume,
  mirroredVolume,
  snapshotTarget,
  takeSnapshot,
} from '../stacks/mirrored.ts';
import { qemuPair, startFleecing, stopFleecing } from '../stacks/qemu-pair.ts';

/** Each side on a core of its own: on two nodes they would not share one either. */
const pinned = { pinned: true };

function backupCommand(source: NbdTarget): readonly string[] {
  return ['nbdcopy', nbdUri(source), 'null:'];
}

/** Overwrites on the primary beside a snapshot on the standby, with or without somebody who reads it all the time. */
function overwrites(bench: Bench, side: string, volume: MirroredVolume, read: boolean, nice: boolean): Side {
  const { seconds, volumeBytes } = bench.options;
  const load = { pattern: 'randwrite', blockBytes: 4096, depth: 32, seconds, rangeBytes: volumeBytes } as const;
  return async (round) => {
    await takeSnapshot(volume, 'backup');
    const enough = new AbortController();
    const reading = read ? readAll(bench, snapshotTarget(volume, 'backup'), nice, enough.signal) : Promise.resolve();
    // A backup that fails ends the measurement, and the other way round.
    const failure = reading.then(() => new Promise<never>(() => {}));
    const writing = bench.fio(side, round, volume.target, load, onCore(cores.primary, []));
    const { operationsPerSecond } = await Promise.race([writing, failure]).finally(() => enough.abort());
    await reading;
    await deleteSnapshots(volume);
    return operationsPerSecond;
  };
}

async function readAll(bench: Bench, source: NbdTarget, nice: boolean, enough: AbortSignal): Promise<void> {
  const command = onCore(cores.standby, [...(nice ? ['nice', '-n', '19'] : []), ...backupCommand(source)]);
  bench.note(command);
  while (!enough.aborted) await run(command, enough);
}

function impactRow(name: string, nice: boolean): Row {
  return {
    name,
    what: `random 4 KiB overwrites on the primary, depth 32, while a backup${nice ? ' of low priority' : ''} reads a snapshot on the standby`,
    against: 'our own without the backup',
    bar: { atLeast: 0.97 },
    measure: async (bench) => {
      const volume = await mirroredVolume(bench, pinned);
      await dropSnapshots(volume);
      return compare(
        bench,
        'IOPS',
        overwrites(bench, 'ours', volume, true, nice),
        overwrites(bench, 'theirs', volume, false, nice),
      );
    },
  };
}

export const backupRows: readonly Row[] = [
  impactRow('backup-impact', false),
  impactRow('backup-impact-nice', true),
  {
    name: 'backup-read',
    what: 'reading a snapshot of which a sixteenth of the chunks has been overwritten',
    against: 'the same of a fleecing backup of qemu',
    measure: async (bench) => {
      const { volumeBytes } = bench.options;
      const bytes = (volumeBytes / (64 * 1024) / 16) * 4096;
      const some = { pattern: 'randwrite', blockBytes: 4096, depth: 32, bytes, rangeBytes: volumeBytes } as const;
      const throughput = async (side: string, round: number, source: NbdTarget) => {
        const command = backupCommand(source);
        bench.note(command);
        await bench.settle();
        const startedMs = performance.now();
        await run(command);
        const bytesPerSecond = volumeBytes / ((performance.now() - startedMs) / 1000);
        bench.sample(side, round, { bytesPerSecond });
        return bytesPerSecond / 1e6;
      };
      const volume = await mirroredVolume(bench);
      await dropSnapshots(volume);
      const pair = await qemuPair(bench);
      return compare(
        bench,
        'MB/s',
        async (round) => {
          await takeSnapshot(volume, 'read');
          await bench.fio('ours before', round, volume.target, some);
          const figure = await throughput('ours', round, snapshotTarget(volume, 'read'));
          await deleteSnapshots(volume);
          return figure;
        },
        async (round) => {
          const fleece = await startFleecing(bench, pair);
          await bench.fio('theirs before', round, pair.target, some);
          const figure = await throughput('theirs', round, fleece);
          await stopFleecing(bench, pair);
          return figure;
        },
      );
    },
  },
];
