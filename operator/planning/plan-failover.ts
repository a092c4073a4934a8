import type { ArbiterRecord } from '../../agent/api/contract/arbiter-record.ts';
import type { Finding } from '../resources/conditions.ts';
import { findCondition, kubeTime } from '../resources/conditions.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { acceptLossAnnotation, promoteAnnotation } from '../resources/group.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { type AgentAction, actionKey, failureOf } from './actions.ts';
import { isInSync, promotedRecord, renewedRecord } from './arbiter-records.ts';
import { type Candidate, candidatesOf, obstacleTo } from './failover-candidates.ts';
import { failureReason, listNames } from './findings.ts';
import type { MirrorFact } from './mirror-facts.ts';
import type { PrimaryFact } from './primary.ts';
import { type CopyLoss, lossOfPrimary } from './primary-loss.ts';
import { agentVolumeName, type VolumeWorld, viewOf } from './volume-world.ts';

/** What is to be done about the place of the primary. */
export interface FailoverPlan {
  /** prepare at the candidate; comes before anything is swapped (rule 3). */
  readonly action?: AgentAction | undefined;
  /** The record after the swap that is to be made now, from the very object that this was planned for. */
  readonly record?: ArbiterRecord | undefined;
  readonly findings: readonly Finding[];
  /** Annotations that have been obeyed. */
  readonly obeyed?: readonly string[];
}

/** How long a standby may be prepared without being promoted, before its primary gets a newer epoch to take it back. */
const abandonedAfterMs = 30_000;

/**
 * Decides whether another copy is to become the primary: by itself, because the primary is lost; or ordered, by an
 * annotation or by draining its node. One step at a time: prepare, then the swap; the PUT follows from the record (see
 * PrimaryFact.due). Each step is planned again from what is observed, so any operator can go on with it. Pure.
 *
 * A copy is promoted without an order to accept a loss only if the record has it InSync in the record's own epoch, and it
 * says itself, prepared, that it is clean, consistent, and of that epoch (invariant 6).
 */
export function planFailover(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  facts: readonly MirrorFact[],
): FailoverPlan {
  const loss = lossOfPrimary(world, primary);
  const findings = loss === undefined || facts.length === 0 ? [] : [lossFinding(loss)];
  const add = (plan: FailoverPlan): FailoverPlan => ({ ...plan, findings: [...findings, ...plan.findings] });
  if (primary.due !== undefined) return add({ findings: [telling(world, volume, primary)] });
  if (primary.trouble !== undefined) return add({ findings: [] });
  const ordered = volume.metadata.annotations?.[promoteAnnotation];
  const candidates = candidatesOf(primary, facts);
  if (ordered !== undefined) return add(planOrdered(world, volume, primary, candidates, loss, ordered));
  if (loss !== undefined) return add(planAutomatic(world, volume, primary, candidates, loss));
  return add(planDrain(world, volume, primary, candidates) ?? planRenewal(world, volume, primary, facts));
}

function lossFinding({ reason, message }: CopyLoss): Finding {
  return { type: 'PrimaryReachable', status: 'False', reason, message };
}

function waiting(reason: string, message: string): FailoverPlan {
  return { findings: [{ type: 'Promotion', status: 'False', reason, message }] };
}

/** The swap has been made; its node has to be told. */
function telling(world: VolumeWorld, volume: PrimaryVolume, { node, epoch, due }: PrimaryFact): Finding {
  const failure = failureOf(world.outcomes, { type: 'put-volume', node, volume: agentVolumeName(volume) });
  const what = due === 'promotion' ? 'has been chosen as the primary' : 'stays the primary';
  const message = failure === undefined ? 'its agent is being told' : `its agent could not be told: ${failure.message}`;
  return {
    type: 'Promotion',
    status: 'False',
    reason: failure === undefined ? 'Promoting' : failureReason(failure),
    message: `node ${node} ${what} of epoch ${epoch}; ${message}`,
  };
}

function planAutomatic(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  candidates: readonly Candidate[],
  loss: CopyLoss,
): FailoverPlan {
  const automatic = candidates.filter(
    ({ spec }) => spec.failover.policy === 'Automatic' && spec.mode === 'Synchronous',
  );
  const obstacles: string[] = [];
  const [best] = automatic.filter((candidate) => {
    const obstacle = obstacleTo(candidate, primary);
    if (obstacle !== undefined) obstacles.push(`${candidate.fact.name}: ${obstacle}`);
    return obstacle === undefined;
  });
  if (best === undefined) {
    const why = obstacles.length > 0 ? listNames(obstacles) : 'no synchronous mirror has failover.policy Automatic';
    return candidates.length === 0 ? { findings: [] } : waiting('MayLoseWrites', `${why}. ${forceHint(primary)}`);
  }
  if (loss.provable !== true && best.view.link?.connected === true)
    return waiting('LinkUp', `the standby on node ${best.node} hears its primary: that lives, though ${loss.message}`);
  const leftMs = parseDurationMs(best.spec.failover.after) - lostForMs(world, volume);
  if (leftMs > 0) {
    const seconds = Math.ceil(leftMs / 1000);
    return waiting('WaitingForDelay', `the copy on node ${best.node} is promoted in about ${seconds} s`);
  }
  return promote(world, volume, primary, best, candidates, { loss });
}

/** Since the condition has been there; before it has been written down, no time has passed. */
function lostForMs(world: VolumeWorld, volume: PrimaryVolume): number {
  const since = findCondition(volume.status?.conditions, 'PrimaryReachable');
  if (since?.status !== 'False') return 0;
  return Math.max(0, Date.parse(world.now) - Date.parse(since.lastTransitionTime));
}

function planOrdered(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  candidates: readonly Candidate[],
  loss: CopyLoss | undefined,
  ordered: string,
): FailoverPlan {
  if (ordered === primary.node || ordered === primary.copy) {
    const done = viewOf(primary.observation)?.role === 'primary' || loss !== undefined;
    return { findings: [], obeyed: done ? [promoteAnnotation, acceptLossAnnotation] : [] };
  }
  const candidate = candidates.find(({ node, fact }) => node === ordered || fact.name === ordered);
  if (candidate === undefined) {
    const there = candidates.map(({ node, fact }) => `${fact.name} on ${node}`);
    return waiting(
      'NoSuchCopy',
      `${promoteAnnotation}: no standby "${ordered}"; there are ${listNames(there) || 'none'}`,
    );
  }
  const obstacle = obstacleTo(candidate, primary);
  if (loss === undefined) {
    if (obstacle !== undefined) return waiting('WaitingForSync', `${candidate.fact.name}: ${obstacle}`);
    return planned(world, volume, primary, candidate, candidates);
  }
  if (obstacle === undefined) return promote(world, volume, primary, candidate, candidates, { loss });
  const { dataEpoch = primary.record.epoch, consistent } = candidate.view;
  if (dataEpoch < 1) return waiting('Empty', emptyCopy(candidate));
  const fromEpoch = Math.min(dataEpoch, primary.record.epoch);
  const accepted = acceptedFrom(primary, volume.metadata.annotations?.[acceptLossAnnotation]);
  if (accepted === undefined || accepted > fromEpoch || !consistent)
    return waiting('MayLoseWrites', `${candidate.fact.name}: ${obstacle}. ${forceHint(primary, fromEpoch)}`);
  return promote(world, volume, primary, candidate, candidates, { loss, lossFromEpoch: accepted });
}

function emptyCopy({ node }: Candidate): string {
  return `the copy on node ${node} has never been in sync: it holds nothing, and no order makes it the primary`;
}

/**
 * Names whose writes may be lost, and of which epochs: it can be used for nothing else (rule 6). A copy that was left behind
 * in an older epoch misses what was acknowledged since, also by whoever was the primary before: then the order says so.
 */
function confirmation({ node, record }: PrimaryFact, fromEpoch: number): string {
  return fromEpoch < record.epoch ? `${node}/${fromEpoch}-${record.epoch}` : `${node}/${record.epoch}`;
}

/** The first epoch of which the order accepts a loss, or undefined if it is no order about this primary. */
function acceptedFrom(primary: PrimaryFact, order: string | undefined): number | undefined {
  const { epoch } = primary.record;
  const from = Number(/\/(\d+)-\d+$/.exec(order ?? '')?.[1] ?? epoch);
  return from >= 1 && from <= epoch && order === confirmation(primary, from) ? from : undefined;
}

function forceHint(primary: PrimaryFact, fromEpoch = primary.record.epoch): string {
  const { epoch } = primary.record;
  const lost =
    fromEpoch < epoch
      ? `Its data is of epoch ${fromEpoch}: what was acknowledged without it in epochs ${fromEpoch} to ${epoch}, by any primary, would be lost.`
      : `What node ${primary.node} acknowledged alone in epoch ${epoch} would be lost.`;
  return (
    `${lost} Bring node ${primary.node} back; or, if it is lost for good and certainly off: ` +
    `kubectl annotate … ${promoteAnnotation}=<node> ${acceptLossAnnotation}=${confirmation(primary, fromEpoch)}`
  );
}

/** Nobody may be using it, so that no I/O fails by it. */
function planned(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  candidate: Candidate,
  candidates: readonly Candidate[],
): FailoverPlan {
  if (viewOf(primary.observation)?.attached === true)
    return waiting('WaitingForConsumers', `the volume is in use on node ${primary.node}; it moves when nobody uses it`);
  return promote(world, volume, primary, candidate, candidates, {});
}

/** A node that has been cordoned and has no consumer of the volume left hands it over. */
function planDrain(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  candidates: readonly Candidate[],
): FailoverPlan | undefined {
  const isCordoned = (node: string) =>
    world.cluster.nodes.some(({ metadata, spec }) => metadata.name === node && spec?.unschedulable === true);
  if (!isCordoned(primary.node)) return undefined;
  const candidate = candidates.find(
    (each) =>
      each.spec.failover.policy === 'Automatic' && !isCordoned(each.node) && obstacleTo(each, primary) === undefined,
  );
  return candidate && planned(world, volume, primary, candidate, candidates);
}

/** The next of the steps: prepare, and when that has been answered, the swap. */
function promote(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  candidate: Candidate,
  candidates: readonly Candidate[],
  { loss, lossFromEpoch }: { readonly loss?: CopyLoss; readonly lossFromEpoch?: number },
): FailoverPlan {
  const { node, fact, spec } = candidate;
  const backup = backupToFinish(world, volume, primary, candidate, loss);
  if (backup !== undefined) return waiting('WaitingForBackup', backup);
  const epoch = epochFor(primary, candidate, candidates);
  const action: AgentAction = { type: 'prepare-volume', node, volume: agentVolumeName(volume), epoch };
  const outcome = world.outcomes.get(actionKey(action));
  if (outcome === undefined || outcome.action.type !== 'prepare-volume' || outcome.action.epoch !== epoch)
    return { ...waiting('Preparing', `the copy on node ${node} is being prepared for epoch ${epoch}`), action };
  if (!outcome.ok) return waiting(failureReason(outcome.failure), `node ${node}: ${outcome.failure.message}`);
  const { clean = false, consistent = false, dataEpoch = 0 } = outcome.prepared ?? {};
  if (!consistent) return waiting('Inconsistent', `the copy on node ${node} is the image of no moment`);
  if (dataEpoch < 1) return waiting('Empty', emptyCopy(candidate));
  const holdsAll = clean && dataEpoch === primary.record.epoch && isInSync(primary.record, fact.name);
  const fromEpoch = Math.min(dataEpoch, primary.record.epoch);
  if (!holdsAll && (lossFromEpoch === undefined || fromEpoch < lossFromEpoch))
    return waiting(
      'MayLoseWrites',
      `prepared, the copy on node ${node} may miss acknowledged writes. ${forceHint(primary, fromEpoch)}`,
    );
  const record = promotedRecord(primary.record, { node, copy: fact.name }, epoch, {
    lossFrom: holdsAll ? undefined : fromEpoch,
    readersEnd: spec.failover.duringBackup === 'Abort',
  });
  return { ...waiting('Promoting', `node ${node} becomes the primary of epoch ${epoch}`), record };
}

/** With `Finish`, who reads the copy is waited for: without end while the primary works, since then nothing is down by it. */
function backupToFinish(
  world: VolumeWorld,
  volume: PrimaryVolume,
  { record }: PrimaryFact,
  { node, view, spec }: Candidate,
  loss: CopyLoss | undefined,
): string | undefined {
  const { duringBackup, after, finishWithin } = spec.failover;
  const read = view.snapshots.filter(({ readers, usedBy }) => readers > 0 || usedBy !== undefined);
  // Once it has been prepared, its primary has to do without it: then there is nothing to wait for any more.
  const begun = (view.prepared ?? 0) > record.epoch;
  if (duringBackup !== 'Finish' || read.length === 0 || begun) return undefined;
  const what = `snapshots on node ${node} are being read: ${listNames(read.map(({ name }) => name))}`;
  if (loss === undefined) return what;
  const lostMs = Date.parse(world.now) - lostForMs(world, volume);
  const untilMs = lostMs + parseDurationMs(after) + parseDurationMs(finishWithin);
  return Date.parse(world.now) < untilMs ? `${what}; waits for them until ${kubeTime(untilMs)}` : undefined;
}

/** Above everything that anybody has seen; the one it has been prepared for already, if that is. */
function epochFor({ record }: PrimaryFact, { view }: Candidate, candidates: readonly Candidate[]): number {
  const seen = candidates.map((other) => Math.max(other.view.epoch, other.view.prepared ?? 0));
  const highest = Math.max(record.epoch, ...seen);
  return view.prepared === highest && highest > record.epoch && view.epoch < highest ? highest : highest + 1;
}

/** A standby that was prepared, and is not promoted after all, refuses its primary until that has a newer epoch. */
function planRenewal(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  facts: readonly MirrorFact[],
): FailoverPlan {
  const view = viewOf(primary.observation);
  const prepared = Math.max(0, ...facts.map((fact) => (fact.view?.role === 'standby' ? (fact.view.prepared ?? 0) : 0)));
  if (view?.role !== 'primary' || prepared <= primary.record.epoch) return { findings: [] };
  const finding: Finding = {
    type: 'Promotion',
    status: 'Unknown',
    reason: 'Prepared',
    message: `a standby is prepared for epoch ${prepared}; unless it is promoted, its primary gets a newer epoch soon`,
  };
  const since = findCondition(volume.status?.conditions, 'Promotion');
  const forMs = since?.status === 'Unknown' ? Date.parse(world.now) - Date.parse(since.lastTransitionTime) : 0;
  if (forMs < abandonedAfterMs) return { findings: [finding] };
  // Above the prepared one, so that whoever goes on with that promotion is too late.
  return { findings: [finding], record: renewedRecord(primary.record, prepared + 1) };
}
