import type { ArbiterAnswer } from './mirror-state.ts';

/** Which standby of which volume, in which epoch of its primary. */
export interface ArbiterQuestion {
  readonly volume: string;
  readonly uid: string | undefined;
  readonly epoch: number;
  readonly mirror: string;
  /** Where the arbiter keeps its record of the volume, as whoever made the volume said. */
  readonly key?: string | undefined;
}

/**
 * Whoever decides, with one compare-and-swap, whether a standby is outdated or a new primary is made. An answer of
 * `granted` was read back; `refused` means that a newer epoch exists; everything else, a lost reply too, is
 * `unreachable`, and the question is asked again.
 *
 * A grant makes every other question of the same volume void that is still under way: one that was given up on and
 * arrives late must fail (a compare-and-swap on the version of the object, also where the object says so already).
 */
export interface Arbiter {
  markOutdated(question: ArbiterQuestion): Promise<ArbiterAnswer>;
  markInSync(question: ArbiterQuestion): Promise<ArbiterAnswer>;
  /** Outdated as well, because the mirror is taken from the volume; the primary goes on only when it is granted. */
  markDropped(question: ArbiterQuestion): Promise<ArbiterAnswer>;
}

/**
 * Without an arbiter nobody can promise that a standby will not be promoted behind the primary's back. `suspend` holds
 * writes until the standby is back; `continue` takes the administrator's word for it.
 */
export function noArbiter(onLoss: 'suspend' | 'continue'): Arbiter {
  return {
    markOutdated: async () => (onLoss === 'continue' ? 'granted' : 'unreachable'),
    markInSync: async () => 'granted',
    // The order to drop it is the word of whoever gives it.
    markDropped: async () => 'granted',
  };
}

/**
 * For a volume that has a record at the arbiter. `suspend` never asks to go on without a standby; it may still be dropped.
 * `undefined`: this agent has no arbiter any more. The record may still say that a standby is in sync, so only the standby
 * itself, or an arbiter, can release the writes that wait for it.
 */
export function withRecord(arbiter: Arbiter | undefined, key: string, onLoss: 'suspend' | 'continue'): Arbiter {
  if (arbiter === undefined) {
    const unreachable = async () => 'unreachable' as const;
    return { markOutdated: unreachable, markInSync: unreachable, markDropped: unreachable };
  }
  return {
    markOutdated: async (question) =>
      onLoss === 'continue' ? arbiter.markOutdated({ ...question, key }) : 'unreachable',
    markInSync: (question) => arbiter.markInSync({ ...question, key }),
    markDropped: (question) => arbiter.markDropped({ ...question, key }),
  };
}
