import type { Client } from 'pg';
import { errorMessage } from '../../../common/errors.ts';
import type { Mark, Sale } from './load.ts';
import { type SeatPlan, seatCount, seatRow } from './schema.ts';

/** What a copy of the database was taken of. */
export interface Expectation {
  plan: SeatPlan;
  /** Every sale the load was told of, in order. */
  sales: readonly Sale[];
  /** Sales acknowledged before it must be there. */
  holds: Mark;
  /** Sales begun after it must not be there; none is given for a database that simply goes on. */
  nothingAfter?: Mark;
}

export interface SeatFindings {
  seatsSold: number;
  seatsFree: number;
  /** Acknowledged sales that must be there, and are. */
  acknowledgedFound: number;
  /** One sentence each; none if the copy is one of a single moment between the marks. */
  problems: string[];
}

/**
 * Looks at a database with the table of seats from all sides: that it is whole (page checksums, heap against index),
 * that sold and free seats add up for every flight, that no seat is sold twice, and that exactly those sales are there
 * which it must hold.
 */
export async function checkSeats(client: Client, expectation: Expectation): Promise<SeatFindings> {
  const findings: SeatFindings = { seatsSold: 0, seatsFree: 0, acknowledgedFound: 0, problems: [] };
  for (const check of [checkSums, checkRows, checkSales, checkPages]) {
    try {
      await check(client, expectation, findings);
    } catch (error) {
      findings.problems.push(`the server failed a query: ${errorMessage(error)}`);
    }
  }
  return findings;
}

/** Reads the heap itself: through an index, a row that is there twice would be found once. */
async function scanOnly(client: Client): Promise<void> {
  await client.query('SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off');
}

async function checkSums(client: Client, { plan }: Expectation, findings: SeatFindings): Promise<void> {
  await scanOnly(client);
  const { rows } = await client.query<{ flight: number; free: string; sold: string; seats: string }>(
    `SELECT flight, coalesce(sum(free), 0) AS free, count(booking) AS sold, count(*) FILTER (WHERE row >= $1) AS seats
     FROM seats WHERE flight >= 0 GROUP BY flight ORDER BY flight`,
    [seatRow(plan, 0)],
  );
  const wrong: string[] = [];
  for (const { flight, free, sold, seats } of rows) {
    findings.seatsFree += Number(free);
    findings.seatsSold += Number(sold);
    if (Number(free) + Number(sold) !== plan.seatsPerFlight || Number(seats) !== plan.seatsPerFlight) {
      wrong.push(`flight ${flight}: ${free} free + ${sold} sold of ${plan.seatsPerFlight}`);
    }
  }
  if (rows.length !== plan.flights) findings.problems.push(`${rows.length} flights instead of ${plan.flights}`);
  report(findings, wrong, (count) => `${count} flights whose seats do not add up`);
}

async function checkRows(client: Client, { plan }: Expectation, findings: SeatFindings): Promise<void> {
  await scanOnly(client);
  const total = plan.flights + plan.archiveRows + seatCount(plan);
  const twice = await client.query<{ row: number; count: string }>(
    'SELECT row, count(*) FROM seats GROUP BY row HAVING count(*) > 1 ORDER BY row',
  );
  const counted = await client.query<{ count: string }>('SELECT count(DISTINCT row) AS count FROM seats');
  const missing = total - Number(counted.rows[0]?.count);
  if (missing !== 0) findings.problems.push(`${missing} of ${total} rows are missing`);
  report(
    findings,
    twice.rows.map(({ row, count }) => `row ${row} ${count} times`),
    (count) => `${count} rows are there more than once`,
  );
}

async function checkSales(client: Client, expectation: Expectation, findings: SeatFindings): Promise<void> {
  await scanOnly(client);
  const { rows } = await client.query<{ row: number; booking: string }>(
    'SELECT row, booking FROM seats WHERE booking IS NOT NULL',
  );
  const bookings = new Map(rows.map(({ row, booking }) => [row, Number(booking)]));
  const soldTwice = rows.length - new Set(rows.map(({ booking }) => booking)).size;
  if (soldTwice > 0) findings.problems.push(`${soldTwice} bookings hold more than one seat`);
  const lost: string[] = [];
  for (const { transaction, seat } of expectation.sales.slice(0, expectation.holds.acknowledged)) {
    const booking = bookings.get(seatRow(expectation.plan, seat));
    if (booking === transaction) findings.acknowledgedFound += 1;
    else lost.push(`transaction ${transaction}, seat ${seat} ${booking ? `is booking ${booking}` : 'is free'}`);
  }
  report(findings, lost, (count) => `${count} acknowledged transactions are lost`);
  const end = expectation.nothingAfter?.nextTransaction ?? Number.POSITIVE_INFINITY;
  const later = [...bookings.values()].filter((booking) => booking >= end).map((booking) => `transaction ${booking}`);
  report(findings, later, (count) => `${count} transactions of after the copy are there`);
}

/** PostgreSQL's own checks of every page of heap and index. Source: its manual, appendix F, amcheck. */
async function checkPages(client: Client, _: Expectation, findings: SeatFindings): Promise<void> {
  const { rows } = await client.query<{ blkno: string; msg: string }>("SELECT blkno, msg FROM verify_heapam('seats')");
  report(
    findings,
    rows.map(({ blkno, msg }) => `page ${blkno}: ${msg}`),
    (count) => `${count} damaged places in the table`,
  );
  await client.query("SELECT bt_index_parent_check('seats_pkey', true)");
}

function report(findings: SeatFindings, cases: string[], summary: (count: number) => string): void {
  if (cases.length === 0) return;
  const more = cases.length > 2 ? '; …' : '';
  findings.problems.push(`${summary(cases.length)} (${cases.slice(0, 2).join('; ')}${more})`);
}
