import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { findPostgres, PostgresServer } from '../support/postgres.ts';
import { waitFor } from '../support/wait-for.ts';
import { checkSeats } from './seat-reservation/checker.ts';
import { SeatLoad } from './seat-reservation/load.ts';
import { createSeats, type SeatPlan, seatRow } from './seat-reservation/schema.ts';

const plan: SeatPlan = { flights: 10, seatsPerFlight: 2000, archiveRows: 1000 };

describe.skipIf(findPostgres() === undefined)('the seat reservation load on PostgreSQL', () => {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-seats-'));
  chmodSync(folder, 0o711);
  const socketDirectory = join(folder, 'socket');
  mkdirSync(socketDirectory);
  const server = new PostgresServer({
    dataDirectory: join(folder, 'data'),
    socketDirectory,
    logFile: join(folder, 'log'),
  });
  let load: SeatLoad;
  let client: Client;

  beforeAll(async () => {
    await server.initialise();
    await server.start();
  });

  afterAll(async () => {
    await server.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach(async () => {
    client = await server.connect();
    await client.query('DROP TABLE IF EXISTS seats; DROP EXTENSION IF EXISTS amcheck');
    await createSeats(client, plan);
    load = new SeatLoad(plan);
    await load.start(() => server.connect(), 3);
    await waitFor(() => load.sales.length >= 300, { timeoutMs: 30_000 });
    return () => client.end();
  });

  const findings = () => checkSeats(client, { plan, sales: load.sales, holds: load.mark() });

  test('holds every acknowledged sale after a crash, and nothing is wrong', async () => {
    await server.kill();
    await load.stop();
    expect(load.failure).toBeDefined();
    await server.start();
    client = await server.connect();
    const { problems, acknowledgedFound, seatsSold, seatsFree } = await findings();
    expect(problems).toEqual([]);
    expect(acknowledgedFound).toBe(load.sales.length);
    expect(seatsSold + seatsFree).toBe(plan.flights * plan.seatsPerFlight);
  });

  test('the checker finds a counter that does not fit its seats', async () => {
    await load.stop();
    await client.query('UPDATE seats SET free = free + 1 WHERE row = 1');
    expect((await findings()).problems).toEqual([expect.stringMatching(/1 flights whose seats do not add up/)]);
  });

  test('the checker finds a sale that was lost, and one that was overwritten', async () => {
    await load.stop();
    const [first, second] = load.sales;
    await client.query('UPDATE seats SET booking = NULL WHERE booking = $1', [first?.transaction]);
    await client.query('UPDATE seats SET booking = 999999 WHERE booking = $1', [second?.transaction]);
    const { problems } = await findings();
    expect(problems).toContainEqual(expect.stringMatching(/2 acknowledged transactions are lost/));
  });

  test('the checker finds rows that are there twice, and seats sold twice', async () => {
    await load.stop();
    await client.query('ALTER TABLE seats DROP CONSTRAINT seats_pkey');
    await client.query('INSERT INTO seats SELECT * FROM seats WHERE row = $1', [
      seatRow(plan, load.sales[0]?.seat ?? 0),
    ]);
    const { problems } = await findings();
    expect(problems).toContainEqual(expect.stringMatching(/1 rows are there more than once/));
    expect(problems).toContainEqual(expect.stringMatching(/1 bookings hold more than one seat/));
  });

  test('the checker finds sales of after the copy', async () => {
    await load.stop();
    const early = { atMs: 0, acknowledged: 0, nextTransaction: 100 };
    const { problems } = await checkSeats(client, { plan, sales: load.sales, holds: early, nothingAfter: early });
    expect(problems).toContainEqual(expect.stringMatching(/transactions of after the copy are there/));
  });
});
