/**
 * Who leads, decided with one Lease: what a replica may conclude from what it has read and written, and what it does next.
 * Pure; effects are in leader-elector.ts.
 *
 * The argument that no two replicas lead at once:
 * - A replica leads only until `renewDeadlineMs` after it *sent* its last write that the API server accepted.
 * - Another one takes a Lease that was not released only when it has seen the same version of it for `leaseMs`, on its own
 *   clock. It began to count after that write was accepted, so after it was sent; and renewDeadlineMs < leaseMs.
 * - Every write of the Lease names the version that it replaces, so of two that take it at once, one gets Conflict.
 * Only durations are compared, never the clocks of two machines: they may differ by any amount, but must run at nearly the
 * same speed. The times in the Lease are for people.
 */

export interface ElectionTiming {
  /** After this time without a sign of the holder, another may take the lease. */
  readonly leaseMs: number;
  /** The holder stops leading this long after it sent its last successful renewal; well below leaseMs. */
  readonly renewDeadlineMs: number;
  /** Between two attempts to renew the lease, or to get it. */
  readonly retryMs: number;
}

/** The usual proportions: 15 s, 10 s and 2 s. */
export function electionTiming(leaseMs: number): ElectionTiming {
  return { leaseMs, renewDeadlineMs: (leaseMs * 2) / 3, retryMs: (leaseMs * 2) / 15 };
}

/** A Lease as it was read. */
export interface SeenLease {
  /** Tells one version from another. */
  readonly version: string;
  /** Undefined once it was released. */
  readonly holder: string | undefined;
  /** What its holder promised. */
  readonly leaseMs: number;
  readonly transitions: number;
}

export interface ElectionState {
  /** As last read or written; undefined while there is none. */
  readonly lease: SeenLease | undefined;
  /** When this version was first seen, on the clock that only grows. */
  readonly sinceMs: number;
  /** It has to be read again before anything can be decided: never read, or a write of it did not succeed. */
  readonly stale: boolean;
  /** When this replica stops leading, unless it renews; undefined while it does not lead. */
  readonly leadsUntilMs: number | undefined;
}

export const initialState: ElectionState = { lease: undefined, sinceMs: 0, stale: true, leadsUntilMs: undefined };

export type ElectionEvent =
  | { readonly type: 'read'; readonly lease: SeenLease | undefined; readonly atMs: number }
  /** The API server accepted a write in which this replica is the holder. */
  | { readonly type: 'written'; readonly lease: SeenLease; readonly sentAtMs: number }
  /** A read or a write failed, or nobody knows. A write may have been accepted all the same. */
  | { readonly type: 'failed' }
  /** It leads no more, by its own decision. */
  | { readonly type: 'resigned' };

export function step(
  state: ElectionState,
  event: ElectionEvent,
  identity: string,
  timing: ElectionTiming,
): ElectionState {
  switch (event.type) {
    case 'read':
      return read(state, event.lease, event.atMs, identity);
    case 'written':
      return {
        lease: event.lease,
        sinceMs: event.sentAtMs,
        stale: false,
        leadsUntilMs: event.sentAtMs + timing.renewDeadlineMs,
      };
    case 'failed':
      return { ...state, stale: true };
    case 'resigned':
      return { ...state, stale: true, leadsUntilMs: undefined };
  }
}

function read(state: ElectionState, lease: SeenLease | undefined, atMs: number, identity: string): ElectionState {
  if (lease === undefined) {
    // Somebody deleted it. Whoever held it may not know yet, so what was promised to him still counts.
    const kept = state.lease?.holder === undefined ? undefined : state.lease;
    return { ...state, lease: kept && { ...kept, version: '' }, stale: false };
  }
  const same = state.lease?.version === lease.version;
  return {
    lease,
    sinceMs: same ? state.sinceMs : atMs,
    stale: false,
    // Another holder means that it is lost, whatever was thought of it.
    leadsUntilMs: lease.holder === identity ? state.leadsUntilMs : undefined,
  };
}

export function isLeading(state: ElectionState, nowMs: number): boolean {
  return state.leadsUntilMs !== undefined && nowMs < state.leadsUntilMs;
}

export type ElectionMove =
  | { readonly type: 'read' }
  /** There is no Lease. */
  | { readonly type: 'create' }
  /** Write it with this replica as the holder: to keep it, or to get it. */
  | { readonly type: 'update'; readonly lease: SeenLease; readonly transitions: number }
  /** Somebody else has it. */
  | { readonly type: 'wait' };

/** What to do at an attempt. A candidate reads first, every time; a leader writes over what it has written. */
export function nextMove(state: ElectionState, identity: string, nowMs: number): ElectionMove {
  if (state.stale) return { type: 'read' };
  const { lease } = state;
  if (lease === undefined) return { type: 'create' };
  const mine = lease.holder === identity;
  const over = lease.holder === undefined || nowMs - state.sinceMs >= lease.leaseMs;
  if (!mine && !over) return { type: 'wait' };
  // A version that is gone cannot be replaced.
  if (lease.version === '') return { type: 'create' };
  return { type: 'update', lease, transitions: mine ? lease.transitions : lease.transitions + 1 };
}
