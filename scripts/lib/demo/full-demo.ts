/** The demo as root: real filesystems on both nodes, and PostgreSQL under load. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '../../../common/errors.ts';
import type { PostgresServer } from '../../../test/support/postgres.ts';
import { waitFor } from '../../../test/support/wait-for.ts';
import type { SeatFindings } from '../../../test/workloads/seat-reservation/checker.ts';
import { type Mark, type Pace, type Sale, SeatLoad } from '../../../test/workloads/seat-reservation/load.ts';
import { createSeats, largePlan as plan } from '../../../test/workloads/seat-reservation/schema.ts';
import { type Backup, backUpSnapshot, copyLiveFiles } from './backups.ts';
import { DemoCluster } from './cluster.ts';
import { databaseOn, describeFindings, examine, startOnCopy } from './databases.ts';
import type { TakenSnapshot } from './kubernetes.ts';
import type { Stage } from './stage.ts';

const sessions = 4;
const measuredSeconds = 6;
const clockDifferenceMs = 100;

/** Plays it, and returns how to look around afterwards. */
export async function fullDemo(stage: Stage): Promise<string> {
  const { report } = stage;
  const cluster = await DemoCluster.start(stage, { attach: 'auto' });
  const primary = await startDatabase(stage, cluster);
  const load = new SeatLoad(plan);
  await load.start(() => primary.connect(), sessions);
  stage.cleanup.add('end the load', () => load.stop());

  const alone = await report.step(`The load runs alone for ${measuredSeconds} s: ${sessions} sessions sell seats`, () =>
    measure(stage, load, measuredSeconds),
  );
  await report.step('A SnapshotSchedule: a snapshot at each full minute from now on', () =>
    cluster.scheduleEachMinute(),
  );
  const liveFiles = await report.step('For comparison: tar packs the files of the live database on the primary', () =>
    copyLiveFiles(stage, cluster.mountPoint('node-a'), load),
  );
  const taken = await report.step('Snapshot, the right way: a Snapshot resource, taken on the standby', () =>
    takeSnapshot(stage, cluster, load),
  );
  // The first overwrite of each chunk after a snapshot costs a copy of it, whether somebody reads the snapshot or not.
  const preserving = await report.step(`The load runs beside the unread snapshot for ${measuredSeconds} s`, () =>
    measure(stage, load, measuredSeconds),
  );
  const backup = await report.step('restic, with low priority, backs up the snapshot on the standby', async () => {
    const done = await backUpSnapshot(stage, taken.mountPoint, load, taken);
    await cluster.unmountSnapshot(taken.snapshot);
    return done;
  });
  showPace(stage, load, { alone, preserving, liveFiles, backup });
  await restoreBoth(stage, load, { liveFiles, backup });
  const successor = await failOver(stage, cluster, primary, load);
  const socket = successor.options.socketDirectory;
  return `${await cluster.describe()}\npsql -h ${socket} -U postgres -c 'SELECT count(booking) FROM seats'`;
}

async function startDatabase(stage: Stage, cluster: DemoCluster): Promise<PostgresServer> {
  return stage.report.step('PostgreSQL starts on the primary; seats are put up for sale', async () => {
    const mountPoint = cluster.mountPoint('node-a');
    await cluster.mount('node-a', { format: true });
    const server = databaseOn('node-a', 'primary', mountPoint, stage);
    await server.initialise();
    await server.start();
    const client = await server.connect();
    await createSeats(client, plan);
    const { rows } = await client.query("SELECT pg_size_pretty(pg_table_size('seats')) AS size");
    await client.end();
    stage.report.note(`${plan.flights} flights with ${plan.seatsPerFlight} seats each, a table of ${rows[0].size}`);
    return server;
  });
}

async function measure(stage: Stage, load: SeatLoad, seconds: number): Promise<Pace> {
  const from = load.mark();
  await waitFor(() => load.failure ?? performance.now() - from.atMs > seconds * 1000, {
    timeoutMs: seconds * 2000,
    intervalMs: 100,
  });
  if (load.failure) throw load.failure;
  const pace = load.pace(from, load.mark());
  stage.report.note(describePace(pace));
  return pace;
}

async function takeSnapshot(
  stage: Stage,
  cluster: DemoCluster,
  load: SeatLoad,
): Promise<{ before: Mark; after: Mark; snapshot: TakenSnapshot; mountPoint: string }> {
  const before = load.mark();
  const snapshot = await cluster.takeSnapshot();
  const after = load.mark();
  const stallMs = longestStall(load, before, after);
  stage.report.note(
    `Ready after ${(after.atMs - before.atMs).toFixed(0)} ms; slowest sale meanwhile: ${stallMs.toFixed(0)} ms`,
  );
  const mountPoint = await cluster.mountSnapshot(snapshot);
  return { before, after, snapshot, mountPoint };
}

function longestStall(load: SeatLoad, from: Mark, to: Mark): number {
  const sales = load.sales.slice(from.acknowledged, to.acknowledged);
  return sales.reduce((longest, sale) => Math.max(longest, sale.acknowledgedMs - sale.begunMs), 0);
}

function showPace(
  stage: Stage,
  load: SeatLoad,
  times: { alone: Pace; preserving: Pace; liveFiles: Backup; backup: Backup },
): void {
  const { alone } = times;
  const during = (work: Backup) => relative(load.pace(work.workFrom, work.workTo));
  const relative = (pace: Pace) => `${describePace(pace)}: ${Math.round((100 * pace.perSecond) / alone.perSecond)} %`;
  stage.report.observe('Sales while nothing else runs', describePace(alone));
  stage.report.observe('Sales while tar reads the live files', during(times.liveFiles));
  stage.report.observe('Sales beside a snapshot nobody reads', relative(times.preserving));
  stage.report.observe('Sales while restic reads the snapshot', during(times.backup));
}

function describePace({ perSecond, medianMs, p99Ms }: Pace): string {
  return `${perSecond.toFixed(0)} a second, median ${medianMs.toFixed(1)} ms, 99 % within ${p99Ms.toFixed(1)} ms`;
}

async function restoreBoth(
  stage: Stage,
  load: SeatLoad,
  backups: { liveFiles: Backup; backup: Backup },
): Promise<void> {
  const { report } = stage;
  await report.step('The backup of the snapshot is restored, and PostgreSQL started on it', async () => {
    const findings = await openRestored(stage, 'restored-snapshot', backups.backup, load);
    report.check('Database from the snapshot', findings.problems.length === 0, describeFindings(findings));
  });
  await report.step('The copy of the live files is restored, and PostgreSQL started on it', async () => {
    const findings = await openRestored(stage, 'restored-live-files', backups.liveFiles, load);
    report.observe('Database from the live files', describeFindings(findings));
  });
}

async function openRestored(stage: Stage, name: string, backup: Backup, load: SeatLoad): Promise<SeatFindings> {
  const parent = join(stage.folder, name);
  mkdirSync(parent);
  await backup.restore(parent);
  const server = databaseOn('node-b', name, parent, stage);
  const { holds, nothingAfter } = backup;
  try {
    await startOnCopy(server);
    return await examine(server, { plan, sales: load.sales, holds, nothingAfter });
  } catch (error) {
    return { seatsSold: 0, seatsFree: 0, acknowledgedFound: 0, problems: [errorMessage(error)] };
  } finally {
    await server.kill();
  }
}

async function failOver(
  stage: Stage,
  cluster: DemoCluster,
  primary: PostgresServer,
  load: SeatLoad,
): Promise<PostgresServer> {
  const { report } = stage;
  const successor = await report.step('The primary is lost: the standby takes over by itself', async () => {
    await cluster.failOverAutomatically();
    const elapsed = stopwatch();
    await cluster.agents['node-a'].end('SIGKILL');
    await primary.kill();
    await load.stop();
    const acknowledged = load.mark();
    report.note(
      `SIGKILL to agent and PostgreSQL of node-a after ${acknowledged.acknowledged} sales, all gone at ${elapsed()}`,
    );
    report.note(`The operator has promoted the standby: ${await cluster.primaryOn('node-b')}, at ${elapsed()}`);
    await cluster.mount('node-b', { format: false });
    report.note(`mounted at ${elapsed()}`);
    const server = databaseOn('node-b', 'successor', cluster.mountPoint('node-b'), stage);
    await startOnCopy(server);
    report.observe(
      'From the kill to the first answer',
      `${elapsed()}, two seconds of them the delay that was asked for`,
    );
    const findings = await examine(server, { plan, sales: load.sales, holds: acknowledged });
    report.check('Database after the failover', findings.problems.length === 0, describeFindings(findings));
    return server;
  });
  await report.step('The old primary comes back, as a standby', async () => {
    report.check('Return of the old primary', true, await cluster.bringBack('node-a'));
  });
  const sales = await report.step('The new primary sells seats, mirrored again', () => sellOn(stage, successor, load));
  return report.step('Somebody drops the table: a SnapshotRestore puts the volume back to the schedule', () =>
    undo(stage, cluster, successor, sales),
  );
}

/** A mistake, and the newest snapshot of the schedule instead of it; returns the database on that. */
async function undo(
  stage: Stage,
  cluster: DemoCluster,
  mistaken: PostgresServer,
  sales: readonly Sale[],
): Promise<PostgresServer> {
  const { report } = stage;
  const { name, takenAtMs } = await cluster.newestScheduled();
  const client = await mistaken.connect();
  await client.query('DROP TABLE seats');
  await client.end();
  const elapsed = stopwatch();
  await mistaken.stop();
  await cluster.unmount('node-b');
  const before = await cluster.restore(name);
  report.note(`put back to ${name} at ${elapsed()}; what was there is kept as ${before}`);
  await cluster.mount('node-b', { format: false });
  const server = databaseOn('node-b', 'undone', cluster.mountPoint('node-b'), stage);
  await startOnCopy(server);
  report.observe('From the mistake to the first answer', `${elapsed()}, PostgreSQL's own recovery included`);
  const findings = await examine(server, { plan, sales, ...marksAround(sales, takenAtMs) });
  report.check('Database as the schedule kept it', findings.problems.length === 0, describeFindings(findings));
  return server;
}

/** What a copy of that moment must hold, and must not. The clocks of two programs may be read a moment apart. */
function marksAround(sales: readonly Sale[], takenAtMs: number): { holds: Mark; nothingAfter: Mark } {
  const [fromMs, toMs] = [takenAtMs - clockDifferenceMs, takenAtMs + clockDifferenceMs];
  const acknowledged = sales.filter(({ wall }) => wall.acknowledgedMs < fromMs).length;
  const later = sales.filter(({ wall }) => wall.begunMs > toMs).map(({ transaction }) => transaction);
  const nextTransaction = Math.min(...later, Number.POSITIVE_INFINITY);
  return {
    holds: { atMs: fromMs, acknowledged, nextTransaction: 0 },
    nothingAfter: { atMs: toMs, acknowledged: 0, nextTransaction },
  };
}

function stopwatch(): () => string {
  const startMs = performance.now();
  return () => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
}

/** A second load goes on where the first one was cut off; afterwards the sales of both must be there. */
async function sellOn(stage: Stage, server: PostgresServer, before: SeatLoad): Promise<readonly Sale[]> {
  const load = new SeatLoad(plan, before.mark().nextTransaction);
  stage.cleanup.add('end the load on the new primary', () => load.stop());
  await load.start(() => server.connect(), sessions);
  await measure(stage, load, 2);
  await load.stop();
  const sales = [...before.sales, ...load.sales];
  const findings = await examine(server, { plan, sales, holds: { ...load.mark(), acknowledged: sales.length } });
  stage.report.check('Sales on the new primary', findings.problems.length === 0, describeFindings(findings));
  return sales;
}
