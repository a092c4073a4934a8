/**
 * The table of a seat reservation, made so that a copy that is not of one moment shows.
 *
 * One table holds, in this order on disk: a counter of free seats for each flight, a wide archive of past bookings that
 * nothing touches, and the seats. A sale changes a counter at the beginning and a seat at the end of the data in one
 * transaction, so for each flight the free seats and the sold ones always add up to the seats it has. Whoever reads the
 * file from front to back, while seats are sold, sees an old counter and a new seat.
 */
import type { Client } from 'pg';

export interface SeatPlan {
  flights: number;
  seatsPerFlight: number;
  /** Rows of about 500 bytes between counters and seats. */
  archiveRows: number;
}

/** About 100 MB, three times PostgreSQL's cache, and seats enough for a few minutes. */
export const largePlan: SeatPlan = { flights: 150, seatsPerFlight: 1000, archiveRows: 60_000 };

export const seatCount = ({ flights, seatsPerFlight }: SeatPlan): number => flights * seatsPerFlight;

/** The row with the counter of a flight (from 0). */
export const counterRow = (flight: number): number => flight + 1;

/** The row of a seat; seats are numbered from 0 across all flights. */
export const seatRow = (plan: SeatPlan, seat: number): number => plan.flights + plan.archiveRows + seat + 1;

export const flightOfSeat = (plan: SeatPlan, seat: number): number => Math.floor(seat / plan.seatsPerFlight);

const text = (repeat: number) => `repeat(md5(row::text), ${repeat})`;

/** Makes and fills the table, and the extension that the checker looks into pages with. */
export async function createSeats(client: Client, plan: SeatPlan): Promise<void> {
  const { flights, seatsPerFlight, archiveRows } = plan;
  const firstSeat = seatRow(plan, 0);
  await client.query('CREATE EXTENSION amcheck');
  // One transaction: what is written into a table that it made itself needs no write-ahead log where wal_level is minimal.
  await client.query(`
    BEGIN;
    CREATE TABLE seats (
      row integer NOT NULL,
      flight integer NOT NULL,
      free integer,
      booking bigint,
      details text NOT NULL
    ) WITH (fillfactor = 70);
    INSERT INTO seats SELECT row, row - 1, ${seatsPerFlight}, NULL, ${text(4)}
      FROM generate_series(1, ${flights}) row;
    INSERT INTO seats SELECT row, -1, NULL, NULL, ${text(14)}
      FROM generate_series(${flights + 1}, ${flights + archiveRows}) row;
    INSERT INTO seats SELECT row, (row - ${firstSeat}) / ${seatsPerFlight}, NULL, NULL, ${text(8)}
      FROM generate_series(${firstSeat}, ${firstSeat + seatCount(plan) - 1}) row;
    ALTER TABLE seats ADD PRIMARY KEY (row);
    COMMIT;
  `);
  await client.query('VACUUM (ANALYZE) seats');
  await client.query('CHECKPOINT');
}
