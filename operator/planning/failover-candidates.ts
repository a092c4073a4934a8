import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { Finding } from '../resources/conditions.ts';
import type { StandbyMirrorSpec } from '../resources/standby-mirror.ts';
import { isInSync } from './arbiter-records.ts';
import type { MirrorFact } from './mirror-facts.ts';
import type { PrimaryFact } from './primary.ts';
import { viewOf } from './volume-world.ts';

/** A copy that could be made the primary, for all that its role and its agent say. */
export interface Candidate {
  readonly fact: MirrorFact;
  readonly node: string;
  readonly view: VolumeView;
  /** Of the mirror that governs it. */
  readonly spec: StandbyMirrorSpec;
}

/** Those that have been prepared already come first. */
export function candidatesOf({ record }: PrimaryFact, facts: readonly MirrorFact[]): Candidate[] {
  const candidates = facts.flatMap((fact) => {
    const { standing, placed, view, spec } = fact;
    if ((standing !== 'standby' && standing !== 'being-promoted') || !spec.ok || placed === undefined) return [];
    return view?.role === 'standby' ? [{ fact, node: placed.node, view, spec: spec.value }] : [];
  });
  const preparedFor = ({ view }: Candidate) => (isPreparedAfter(view, record.epoch) ? 0 : 1);
  return candidates.sort((a, b) => preparedFor(a) - preparedFor(b));
}

function isPreparedAfter({ prepared = 0 }: VolumeView, epoch: number): boolean {
  return prepared > epoch;
}

/** Why promoting this copy might lose an acknowledged write, or cannot be done; undefined if neither. */
export function obstacleTo({ fact, view }: Candidate, { record }: PrimaryFact): string | undefined {
  if (view.state !== 'Ready') return `it is ${view.state}${view.lastError === undefined ? '' : ` (${view.lastError})`}`;
  if (!view.consistent) return 'it is inconsistent: a resynchronisation into it is unfinished';
  if (!isInSync(record, fact.name)) {
    const agreed = record.copies.find(({ name, epoch }) => name === fact.name && epoch === record.epoch);
    return agreed === undefined
      ? `it has not been in sync in epoch ${record.epoch}`
      : `the primary went on without it (Outdated in epoch ${record.epoch})`;
  }
  return view.clean ? undefined : 'its agent ended uncleanly, and it may have lost what it had received';
}

/** Whether a failover would happen by itself. */
export function failoverReadyFinding(fact: MirrorFact, primary: PrimaryFact | undefined): Finding {
  const say = (status: Finding['status'], reason: string, message: string): Finding => ({
    type: 'FailoverReady',
    status,
    reason,
    message,
  });
  const view = primary && viewOf(primary.observation);
  if (primary === undefined || view?.role !== 'primary')
    return say('Unknown', 'PrimaryUnseen', 'the primary says nothing now');
  if (view.arbiter?.key === undefined)
    return say('False', 'NoArbiter', `the agent of node ${primary.node} has no arbiter: set "arbiter: kubernetes"`);
  const [candidate] = candidatesOf(primary, [fact]);
  if (candidate === undefined) return say('False', 'NoStandby', 'its copy is no standby that answers');
  const obstacle = obstacleTo(candidate, primary);
  return obstacle === undefined
    ? say('True', 'InSync', `the copy on node ${candidate.node} takes over by itself`)
    : say('False', 'NotInSync', obstacle);
}
