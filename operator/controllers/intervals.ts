/** How often agents are asked, in milliseconds. */
export interface Intervals {
  /** While something is on its way: a resync, a creation, a deletion, an agent that does not answer. */
  readonly transitionalMs: number;
  /** While everything is as it should be. */
  readonly idleMs: number;
  /** While everything is as it should be, and the loss of a primary is to be noticed soon; by default as when idle. */
  readonly watchfulMs?: number;
}

export const defaultIntervals: Intervals = { transitionalMs: 2_000, idleMs: 30_000, watchfulMs: 5_000 };
