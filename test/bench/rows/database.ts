import { compare } from '../compare.ts';
import type { Row } from '../row.ts';
import { loopDatabase, mirroredDatabase } from '../stacks/database.ts';

export const databaseRows: readonly Row[] = [
  {
    name: 'pgbench',
    what: 'pgbench (TPC-B, 4 clients) on PostgreSQL on ext4 on a mirrored volume, mounted over FUSE',
    against: 'the same on a bare loop device, on one disk',
    measure: async (bench) => {
      const ours = await mirroredDatabase(bench);
      const theirs = await loopDatabase(bench);
      const { seconds } = bench.options;
      return compare(
        bench,
        'TPS',
        () => ours.measure(seconds),
        () => theirs.measure(seconds),
      );
    },
  },
];
