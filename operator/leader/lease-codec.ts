import type { Lease } from '../resources/platform-kinds.ts';
import type { SeenLease } from './election.ts';

/** For a Lease that does not say how long it is for; the API server fills nothing in. */
const defaultLeaseMs = 15_000;

export function seenLease(lease: Lease): SeenLease {
  const { holderIdentity, leaseDurationSeconds, leaseTransitions } = lease.spec ?? {};
  return {
    version: lease.metadata.resourceVersion,
    holder: holderIdentity === '' ? undefined : holderIdentity,
    leaseMs: leaseDurationSeconds === undefined ? defaultLeaseMs : leaseDurationSeconds * 1000,
    transitions: leaseTransitions ?? 0,
  };
}

export interface LeaseClaim {
  readonly identity: string;
  readonly leaseMs: number;
  readonly transitions: number;
  /** Wall time, milliseconds. */
  readonly nowMs: number;
  /** When the holder got it; the same as `nowMs` for one that gets it now. */
  readonly acquiredAtMs: number;
}

/** The spec of a Lease that this holder has. */
export function claimSpec(claim: LeaseClaim): NonNullable<Lease['spec']> {
  return {
    holderIdentity: claim.identity,
    // Rounded up: others must not count less than what was meant.
    leaseDurationSeconds: Math.ceil(claim.leaseMs / 1000),
    acquireTime: microTime(claim.acquiredAtMs),
    renewTime: microTime(claim.nowMs),
    leaseTransitions: claim.transitions,
  };
}

/** The spec of a Lease that nobody has, as its last holder leaves it. */
export function releasedSpec(transitions: number, nowMs: number): NonNullable<Lease['spec']> {
  return { holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(nowMs), leaseTransitions: transitions };
}

/** Kubernetes' MicroTime. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
