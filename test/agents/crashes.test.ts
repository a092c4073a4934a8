import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { mountingImpossible } from '../support/mount-host.ts';
import { findPostgres, PostgresServer } from '../support/postgres.ts';
import { waitFor } from '../support/wait-for.ts';
import { checkSeats } from '../workloads/seat-reservation/checker.ts';
import { type Sale, SeatLoad } from '../workloads/seat-reservation/load.ts';
import { createSeats, type SeatPlan } from '../workloads/seat-reservation/schema.ts';
import { call, content, expectOk, put, TwoAgents, view, volume } from './cluster.ts';

const plan: SeatPlan = { flights: 20, seatsPerFlight: 200, archiveRows: 2_000 };
/** Sales to wait for before each kill. */
const salesPerRound = 60;
const rounds = Number(process.env.UNDERSTUDY_CRASH_ROUNDS ?? 3);

const impossible =
  (await mountingImpossible()) ?? (findPostgres() === undefined ? 'PostgreSQL is not installed' : undefined);

let folder: string;
let agents: TwoAgents;
let database: PostgresServer;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'crashes-'));
  // PostgreSQL runs as a user of its own.
  chmodSync(folder, 0o755);
  agents = await TwoAgents.start('fuse');
  await agents.mirrored({ primary: { size: '384Mi' }, standby: { size: '384Mi' } });
  await mount({ format: true });
  mkdirSync(join(folder, 'socket'));
  database = new PostgresServer({
    dataDirectory: join(folder, 'volume', 'postgresql'),
    socketDirectory: join(folder, 'socket'),
    logFile: join(folder, 'postgres.log'),
  });
});
afterEach(async () => {
  await database.kill();
  await call(agents.a, 'DELETE', `/v1/volumes/${volume}/mounts/db`);
  await agents.remove();
  rmSync(folder, { recursive: true, force: true });
});

async function mount(options: { format?: boolean } = {}): Promise<void> {
  // A volume that is being brought in sync again after a crash holds its I/O until its standby has answered.
  expectOk(await put(agents.a, `/v1/volumes/${volume}/mounts/db`, { target: join(folder, 'volume'), ...options }));
}

async function startDatabase(): Promise<void> {
  await database.removeForeignLock();
  await database.start();
}

/** Every acknowledged sale is in the database, which is whole. */
async function check(sales: readonly Sale[], load: SeatLoad): Promise<void> {
  const client = await database.connect();
  const { problems } = await checkSeats(client, { plan, sales, holds: load.mark() });
  await client.end();
  expect(problems).toEqual([]);
}

type Victim = 'primary' | 'standby' | 'both';

async function killAndRestart(victim: Victim): Promise<void> {
  const killed = { primary: [agents.a], standby: [agents.b], both: [agents.a, agents.b] }[victim];
  await Promise.all(killed.map((agent) => agent.kill()));
  if (victim !== 'standby') await database.kill();
  await Promise.all(killed.map((agent) => agent.start()));
  if (victim === 'standby') return;
  await mount();
  await startDatabase();
}

test.skipIf(impossible !== undefined)(
  `agents are killed again and again under a database: every acknowledged transaction is there (${impossible ?? 'PostgreSQL on ext4'})`,
  async () => {
    await database.initialise();
    await database.start();
    const client = await database.connect();
    await createSeats(client, plan);
    await client.end();
    let load = new SeatLoad(plan);
    const sales: Sale[] = [];
    const victims: Victim[] = Array.from(
      { length: rounds },
      (_, round) => (['primary', 'standby', 'both'] as const)[round % 3] ?? 'both',
    );
    for (const victim of victims) {
      await load.start(() => database.connect(), 2);
      await waitFor(() => load.sales.length >= salesPerRound || load.failure !== undefined, { timeoutMs: 120_000 });
      expect(load.failure).toBeUndefined();
      await killAndRestart(victim);
      if (victim === 'standby') {
        const before = load.sales.length;
        await waitFor(() => load.sales.length > before, { timeoutMs: 60_000 });
      }
      await load.stop();
      sales.push(...load.sales);
      const { nextTransaction } = load.mark();
      const total = new SeatLoad(plan, nextTransaction);
      total.sales.push(...sales);
      await check(sales, total);
      await agents.inSync();
      load = new SeatLoad(plan, nextTransaction);
    }
    await database.stop();
    expectOk(await call(agents.a, 'DELETE', `/v1/volumes/${volume}/mounts/db`));
    await waitFor(async () => !(await view(agents.a)).attached, { timeoutMs: 30_000 });
    expect((await agents.snapshot('end')).status).toBe(201);
    expect((await content(agents.b, `${volume}@end`)).equals(await content(agents.a))).toBe(true);
  },
  600_000,
);
