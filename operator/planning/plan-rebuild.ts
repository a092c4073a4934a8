import { type Finding, findCondition, kubeTime } from '../resources/conditions.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { promoteAnnotation, rebuildAnnotation } from '../resources/group.ts';
import type { PrimaryVolume, StaleCopy, VolumeCopy } from '../resources/primary-volume.ts';
import { isInSync, isSuperseded } from './arbiter-records.ts';
import { feederOf, type MirrorContext, type MirrorFact } from './mirror-facts.ts';
import { isDeleting, isHeld } from './object-plan.ts';
import { placeStandby } from './place-standby.ts';
import type { PrimaryFact } from './primary.ts';
import { type CopyLoss, lossOfCopy, lossOfPrimary } from './primary-loss.ts';
import { isMoving } from './stale-copies.ts';
import { viewOf } from './volume-world.ts';

export interface RebuildPlan {
  /** How the standby of each mirror stands, by the name of the mirror; nothing about those that are there. */
  readonly findings: ReadonlyMap<string, readonly Finding[]>;
  /** The copy that is given up now; it is written into the object that has the record, from which that was decided. */
  readonly givenUp?: StaleCopy | undefined;
}

/**
 * Decides whether the standby of a mirror is given up, since its node is lost for good, to be built again on another node.
 * One at a time. From then on it is a stale copy (see stale-copies.ts): its link is taken away, another place is found, and
 * what is there is made in sync like any new standby. Each step follows from what the one before has written. Pure.
 *
 * A copy is given up only if nobody can need it: the primary is there, is in no change of place, and goes on without it, by
 * the arbiter's word. So it is neither the last good copy nor a candidate, and there is somewhere to build it again.
 */
export function planRebuilds(context: MirrorContext): RebuildPlan {
  const findings = new Map<string, readonly Finding[]>();
  let givenUp: StaleCopy | undefined;
  for (const fact of context.facts) {
    const loss = lossOfStandby(fact, context);
    if (loss === undefined) {
      if (isRebuildOrdered(fact) && fact.standing === 'standby')
        findings.set(fact.mirror.metadata.name, [notLost(fact)]);
      continue;
    }
    const lost: Finding = { type: 'StandbyReachable', status: 'False', ...reasonOf(loss) };
    const decision = decide(fact, context, loss);
    if (decision !== undefined && 'epoch' in decision) givenUp ??= decision;
    const waits = decision !== undefined && 'type' in decision ? [decision] : [];
    findings.set(fact.mirror.metadata.name, [lost, ...waits]);
  }
  return { findings, givenUp };
}

function notLost({ placed }: MirrorFact): Finding {
  return waiting(
    'StandbyThere',
    `its standby on node ${placed?.node} is there: it is given up when it is lost, unless the annotation ${rebuildAnnotation} is taken off`,
  );
}

function reasonOf({ reason, message }: CopyLoss): Pick<Finding, 'reason' | 'message'> {
  return { reason, message };
}

/** Whether the annotation is an order about the standby where it is now; one that is not has been obeyed, or is about nothing. */
export function isRebuildOrdered({ mirror, placed }: MirrorFact): boolean {
  return placed !== undefined && mirror.metadata.annotations?.[rebuildAnnotation] === placed.node;
}

/** Undefined while there is no standby, or it is there: also if its feeder has a link to it that works. */
function lossOfStandby(fact: MirrorFact, { world, volume, primary }: MirrorContext): CopyLoss | undefined {
  const { placed, observation, standing, link, mirror } = fact;
  if (standing !== 'standby' || placed === undefined || observation === undefined || isDeleting(mirror))
    return undefined;
  if (link !== undefined && link.state !== 'Connecting' && link.state !== 'Outdated') return undefined;
  // One that is missing where it was is made there again, except the copy that the volume began with.
  const made = !fact.reversed || recordedOf(fact, volume)?.state === 'Pending';
  if (observation.kind === 'absent' && made) return undefined;
  return primary && lossOfCopy(world, placed.node, observation);
}

function recordedOf({ name }: MirrorFact, volume: PrimaryVolume | undefined): VolumeCopy | undefined {
  return volume?.status?.copies?.find((copy) => copy.name === name);
}

/** The copy, to be given up now; or what that waits for; or undefined where it is not wanted. */
function decide(fact: MirrorFact, context: MirrorContext, loss: CopyLoss): StaleCopy | Finding | undefined {
  const { volume, volumeSpec, primary, world } = context;
  const { spec, placed, mirror } = fact;
  if (!spec.ok || placed === undefined || volume === undefined || volumeSpec === undefined || primary === undefined)
    return undefined;
  const ordered = isRebuildOrdered(fact);
  if (spec.value.nodeSelector === undefined || !isHeld(mirror) || isDeleting(volume)) return undefined;
  if (spec.value.rebuild.policy === 'Manual' && !ordered)
    return waiting('Manual', `if that is for good: kubectl annotate … ${rebuildAnnotation}=${placed.node}`);
  const needed = needOf(fact, context, volume, primary);
  if (needed !== undefined) return waiting(needed.reason, needed.message);
  const untilMs = ordered ? 0 : lostSinceMs(fact, world.now) + parseDurationMs(spec.value.rebuild.after);
  if (Date.parse(world.now) < untilMs) {
    const message = `${loss.message}; it is built again on another node at ${kubeTime(untilMs)}, unless it is back`;
    return waiting('WaitingForDelay', message);
  }
  const moving = context.facts.find((other) => isMoving(volume, other));
  if (moving !== undefined) return waiting('WaitingForOther', `the standby of ${moving.name} gets another node first`);
  const placement = placeStandby(fact, spec.value, volume, volumeSpec, primary, world);
  if (!placement.ok) return waiting(placement.reason, `it stays what it is: ${placement.message}`);
  return { name: fact.name, node: placed.node, pool: placed.pool, epoch: primary.record.epoch };
}

function waiting(reason: string, message: string): Finding {
  return { type: 'Rebuild', status: 'False', reason, message };
}

/** Since the condition has been there; before it has been written down, no time has passed. */
function lostSinceMs({ mirror }: MirrorFact, now: string): number {
  const since = findCondition(mirror.status?.conditions, 'StandbyReachable');
  return Date.parse(since?.status === 'False' ? since.lastTransitionTime : now);
}

/** Why somebody may need the copy yet. */
function needOf(
  fact: MirrorFact,
  { world, facts }: MirrorContext,
  volume: PrimaryVolume,
  primary: PrimaryFact,
): { readonly reason: string; readonly message: string } | undefined {
  const { record, trouble, due } = primary;
  const view = viewOf(primary.observation);
  const loss = lossOfPrimary(world, primary);
  if (trouble !== undefined || loss !== undefined || view?.role !== 'primary') {
    const why = trouble ?? loss ?? { message: 'it says nothing now' };
    return { reason: 'PrimaryLost', message: `of the primary: ${why.message}; no copy is given up meanwhile` };
  }
  const prepared = facts.some((other) => other.standing === 'being-promoted' || isPrepared(other, record.epoch));
  if (due !== undefined || prepared || view.epoch !== record.epoch || isOrdered(volume))
    return { reason: 'PromotionInProgress', message: 'the primary is changing; no copy is given up meanwhile' };
  if (view.state !== 'Ready') {
    const hint = 'with onLoss Suspend it waits for this standby; set it to Continue, or delete the mirror';
    return { reason: 'PrimaryWaits', message: `the primary is ${view.state}: ${hint}` };
  }
  if (feederOf(fact, primary)?.observation.kind !== 'present')
    return { reason: 'FeederLost', message: 'the standby that feeds it is lost too' };
  if (isInSync(record, fact.name))
    return { reason: 'StillNeeded', message: 'the primary has not gone on without it yet' };
  return mayHaveDiverged(fact, volume, primary);
}

function isPrepared({ view }: MirrorFact, epoch: number): boolean {
  return view?.role === 'standby' && (view.prepared ?? 0) > epoch;
}

function isOrdered({ metadata }: PrimaryVolume): boolean {
  return metadata.annotations?.[promoteAnnotation] !== undefined;
}

/** A former primary may have acknowledged what nobody else has: that is for people to decide. */
function mayHaveDiverged({ name }: MirrorFact, volume: PrimaryVolume, { record }: PrimaryFact) {
  const recorded = volume.status?.copies?.find((copy) => copy.name === name);
  const former = recorded?.role === 'Former';
  const diverged = record.divergent.includes(name) || (former && !isSuperseded(record, name, recorded.epoch ?? 0));
  const message = 'it was the primary, and may have acknowledged writes that no other copy has';
  return diverged ? { reason: 'MayHaveDiverged', message } : undefined;
}
