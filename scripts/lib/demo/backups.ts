/** The two ways to back up a live database that the demo compares: copying its files, and a snapshot on the standby. */
import { join } from 'node:path';
import type { Mark, SeatLoad } from '../../../test/workloads/seat-reservation/load.ts';
import { run } from './command.ts';
import { dataFolder } from './databases.ts';
import type { Stage } from './stage.ts';

/** As a pod with a small request for processor time runs. */
const lowPriority = ['nice', '-n', '19'];

export interface Backup {
  /** Restores it into an empty folder. */
  restore(target: string): Promise<unknown>;
  /** What a copy of one moment would hold at least, and at most. */
  holds: Mark;
  nothingAfter: Mark;
  /** When the work of the backup began and ended. */
  workFrom: Mark;
  workTo: Mark;
}

/** Packs the files of the running database on the primary's node, as many a nightly script does. */
export async function copyLiveFiles(stage: Stage, mountPoint: string, load: SeatLoad): Promise<Backup> {
  const archive = join(stage.folder, 'live-files.tar.gz');
  const from = load.mark();
  // tar exits with 1 when files changed while it read them. That is what a live copy is, so it counts as done.
  const { code } = await run(['tar', '-czf', archive, '-C', mountPoint, dataFolder], {
    node: 'node-a',
    accept: [1],
    signal: stage.interrupted,
  });
  const to = load.mark();
  if (code === 1) stage.report.note('tar: files changed as it read them');
  const restore = (target: string) =>
    run(['tar', '-xzf', archive, '-C', target], { node: 'node-b', signal: stage.interrupted });
  return { restore, holds: from, nothingAfter: to, workFrom: from, workTo: to };
}

/** Backs up a mounted snapshot with restic, on the standby's node. */
export async function backUpSnapshot(
  stage: Stage,
  mountPoint: string,
  load: SeatLoad,
  taken: { before: Mark; after: Mark },
): Promise<Backup> {
  const restic = (...command: string[]) =>
    run([...lowPriority, 'restic', '--no-cache', '--quiet', ...command], {
      node: 'node-b',
      cwd: mountPoint,
      signal: stage.interrupted,
      env: { RESTIC_REPOSITORY: join(stage.folder, 'restic-repository'), RESTIC_PASSWORD: 'demo', GOMAXPROCS: '1' },
    });
  await restic('init');
  const workFrom = load.mark();
  await restic('backup', dataFolder);
  const workTo = load.mark();
  const restore = (target: string) => restic('restore', 'latest', '--target', target);
  return { restore, holds: taken.before, nothingAfter: taken.after, workFrom, workTo };
}
