import type { Bench } from '../bench-context.ts';
import { compare } from '../compare.ts';
import type { Row } from '../row.ts';
import { singleVolume } from '../stacks/single.ts';
import { type ProtectedVolume, protectedVolume, withSnapshot } from '../stacks/single-server.ts';
import { overwrite } from './snapshots.ts';

/** What a snapshot costs where its buffer is at the primary itself: there, an overwrite waits for what it preserves. */
export const singleServerRows: readonly Row[] = [
  row(
    'single-server-first',
    'where each overwrite is the first of its chunk since the snapshot',
    (bench, volume, round) => withSnapshot(volume, () => overwrite(bench, 'ours', round, volume.target)),
  ),
  row('single-server-again', 'where chunks have been preserved already', (bench, volume, round) =>
    withSnapshot(volume, async () => {
      // The same places: the order of the writes is the seed's.
      await overwrite(bench, 'ours before', round, volume.target);
      return overwrite(bench, 'ours', round, volume.target);
    }),
  ),
];

function row(
  name: string,
  where: string,
  ours: (bench: Bench, volume: ProtectedVolume, round: number) => Promise<number>,
): Row {
  return {
    name,
    what: `single server: random 4 KiB overwrites, depth 32, with a snapshot on the volume itself, ${where}`,
    against: 'our own volume without a buffer',
    measure: async (bench) => {
      const volume = await protectedVolume(bench);
      const plain = await singleVolume(bench);
      return compare(
        bench,
        'IOPS',
        (round) => ours(bench, volume, round),
        (round) => overwrite(bench, 'theirs', round, plain.target),
      );
    },
  };
}
