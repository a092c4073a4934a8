import type { Client } from 'pg';
import { counterRow, flightOfSeat, type SeatPlan, seatCount, seatRow } from './schema.ts';

/** One transaction that the database acknowledged. */
export interface Sale {
  /** Numbers grow by one in the order in which transactions are begun. */
  transaction: number;
  seat: number;
  /** Milliseconds on the monotonic clock. */
  begunMs: number;
  acknowledgedMs: number;
  /** The same by the wall clock, in milliseconds since 1970. */
  wall: { begunMs: number; acknowledgedMs: number };
}

/** A point in the history of the load: what a copy taken from here on must hold, or one taken before must not. */
export interface Mark {
  atMs: number;
  /** Sales acknowledged before the mark: the first so many of `sales`. */
  acknowledged: number;
  /** No transaction with this number or a higher one had begun. */
  nextTransaction: number;
}

export interface Pace {
  seconds: number;
  transactions: number;
  perSecond: number;
  medianMs: number;
  p99Ms: number;
}

/** Sells each seat once, from several sessions at a time, and remembers every acknowledgement outside the database. */
export class SeatLoad {
  /** In the order of their acknowledgement. */
  readonly sales: Sale[] = [];
  readonly #plan: SeatPlan;
  readonly #sessions: Promise<void>[] = [];
  #nextTransaction: number;
  #stopping = false;
  #failure: Error | undefined;

  /** One that goes on after another load begins with that one's next transaction. */
  constructor(plan: SeatPlan, nextTransaction = 1) {
    this.#plan = plan;
    this.#nextTransaction = nextTransaction;
  }

  /** Starts that many sessions; each ends its connection when the load is stopped or the server is gone. */
  async start(connect: () => Promise<Client>, sessions: number): Promise<void> {
    const clients = await Promise.all(Array.from({ length: sessions }, connect));
    for (const client of clients) {
      this.#sessions.push(
        this.#sell(client)
          .catch((error: Error) => {
            this.#failure ??= error;
          })
          .finally(() => client.end().catch(() => {})),
      );
    }
  }

  /** The first error of a session, for instance because the server is gone. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Lets transactions under way finish; afterwards nothing of the load runs any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#sessions);
  }

  mark(): Mark {
    return { atMs: performance.now(), acknowledged: this.sales.length, nextTransaction: this.#nextTransaction };
  }

  /** How fast sales were acknowledged from one mark to another. */
  pace(from: Mark, to: Mark): Pace {
    const sales = this.sales.slice(from.acknowledged, to.acknowledged);
    const latencies = sales.map((sale) => sale.acknowledgedMs - sale.begunMs).sort((a, b) => a - b);
    const quantile = (share: number) => latencies[Math.floor(share * (latencies.length - 1))] ?? Number.NaN;
    const seconds = (to.atMs - from.atMs) / 1000;
    return {
      seconds,
      transactions: sales.length,
      perSecond: sales.length / seconds,
      medianMs: quantile(0.5),
      p99Ms: quantile(0.99),
    };
  }

  async #sell(client: Client): Promise<void> {
    while (!this.#stopping) {
      const transaction = this.#nextTransaction++;
      const seat = this.#seatFor(transaction);
      const begunMs = performance.now();
      const wallBegunMs = Date.now();
      await client.query('BEGIN');
      const counter = { name: 'count', text: 'UPDATE seats SET free = free - 1 WHERE row = $1 AND free > 0' };
      const sold = { name: 'sell', text: 'UPDATE seats SET booking = $1 WHERE row = $2 AND booking IS NULL' };
      const counted = await client.query({ ...counter, values: [counterRow(flightOfSeat(this.#plan, seat))] });
      const booked = await client.query({ ...sold, values: [transaction, seatRow(this.#plan, seat)] });
      if (counted.rowCount !== 1 || booked.rowCount !== 1) {
        await client.query('ROLLBACK');
        throw new Error(`transaction ${transaction}: seat ${seat} was free, and the database says it is sold`);
      }
      await client.query('COMMIT');
      const wall = { begunMs: wallBegunMs, acknowledgedMs: Date.now() };
      this.sales.push({ transaction, seat, begunMs, acknowledgedMs: performance.now(), wall });
    }
  }

  /** Seats far apart from one another, each exactly once: a step that shares no factor with the number of seats. */
  #seatFor(transaction: number): number {
    const seats = seatCount(this.#plan);
    if (transaction > seats) throw new Error(`all ${seats} seats are sold: the plan is too small for this load`);
    return (transaction * coprimeStep(seats)) % seats;
  }
}

function coprimeStep(count: number): number {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));
  let step = Math.floor(count * 0.618) + 1;
  while (divisor(step, count) !== 1) step += 1;
  return step;
}
