import type { Row } from './row.ts';
import { backupRows } from './rows/backup.ts';
import { barrierRows } from './rows/barrier.ts';
import { bufferOpenRows } from './rows/buffer-open.ts';
import { databaseRows } from './rows/database.ts';
import { memoryRows } from './rows/memory.ts';
import { mirrorRows } from './rows/mirror.ts';
import { resyncRows } from './rows/resync.ts';
import { singleRows } from './rows/single.ts';
import { singleServerRows } from './rows/single-server.ts';
import { snapshotRows } from './rows/snapshots.ts';

/** In the order of the table. */
export const allRows: readonly Row[] = [
  ...mirrorRows,
  ...singleRows,
  ...singleServerRows,
  ...databaseRows,
  ...snapshotRows,
  ...backupRows,
  ...barrierRows,
  ...resyncRows,
  ...memoryRows,
  ...bufferOpenRows,
];
