import type { VolumeSpecInput } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { Finding } from '../resources/conditions.ts';
import type { PrimaryVolume, PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import { type StandbyMirrorSpec, type StandbyMirrorStatus, standbyMirrors } from '../resources/standby-mirror.ts';
import { acceptedPart, describeViolations } from '../resources/validate-spec.ts';
import { type AgentAction, failureOf } from './actions.ts';
import { isSuperseded } from './arbiter-records.ts';
import { changedCopySpec, isAsSpecified, newCopySpec } from './copy-spec.ts';
import { notReady, notReadyAfter } from './findings.ts';
import { sameLinks } from './link-spec.ts';
import { type MirrorContext, type MirrorFact, upstreamName } from './mirror-facts.ts';
import { linkFindings } from './mirror-status.ts';
import { isDeleting, isHeld } from './object-plan.ts';
import { placeStandby } from './place-standby.ts';
import type { Placement } from './placement.ts';
import { wantedLinks } from './plan-links.ts';
import type { PrimaryFact } from './primary.ts';
import { isMoving } from './stale-copies.ts';
import { agentVolumeName, type VolumeWorld, viewOf } from './volume-world.ts';

/** What is to be done for a mirror that is not being deleted. */
export interface MirrorStep {
  readonly action?: AgentAction | undefined;
  /** Decided in this round; acted upon when it has been written down. */
  readonly placement?: Pick<StandbyMirrorStatus, 'node' | 'pool' | 'volume' | 'accepted'>;
  readonly findings: readonly Finding[];
}

/** Plans one mirror: where its standby goes, what its agent is told, and how it stands. */
export function planMirror(fact: MirrorFact, context: MirrorContext): MirrorStep {
  const { volume, primary } = context;
  if (volume === undefined)
    return says('VolumeNotFound', `there is no PrimaryVolume ${volumeName(fact)} in this namespace`);
  switch (fact.standing) {
    case 'foreign':
      return says(
        'VolumeReplaced',
        `the standby is of an earlier PrimaryVolume ${volumeName(fact)}; delete this mirror and create it again`,
      );
    case 'promoted':
      return says('Promoted', `its copy on node ${primary?.node} is the primary now (epoch ${primary?.epoch})`);
    case 'former':
      return planReturn(fact, volume, context);
    case 'being-promoted':
      return says(
        'PromotionInProgress',
        `its copy on node ${fact.placed?.node} has been told of a newer epoch than ${primary?.epoch}`,
      );
    default:
      return planStandby(fact, volume, context);
  }
}

function planStandby(fact: MirrorFact, volume: PrimaryVolume, context: MirrorContext): MirrorStep {
  if (!fact.spec.ok) return says('Invalid', describeViolations(fact.spec.violations));
  if (isDeleting(volume)) {
    const going = says('VolumeDeleting', `PrimaryVolume ${volume.metadata.name} is being deleted`);
    return { ...going, action: planStandbyLinks(fact, context) };
  }
  const { volumeSpec, primary } = context;
  const cascade = cascadeObstacle(fact, context);
  if (cascade !== undefined) return cascade;
  if (fact.placed === undefined) {
    if (volumeSpec === undefined || primary === undefined) return volumeNotReady(volume);
    return planPlacement(fact, fact.spec.value, volume, volumeSpec, primary, context.world);
  }
  const wanted = standbySpec(fact, volume, context);
  if (wanted === undefined) return { findings: linkFindings(fact, context) };
  const action = { type: 'put-volume', node: fact.placed.node, volume: fact.placed.volume, spec: wanted } as const;
  const failure = failureOf(context.world.outcomes, action);
  if (failure === undefined) return { action, findings: linkFindings(fact, context) };
  const [, ...others] = linkFindings(fact, context);
  return { findings: [notReadyAfter(failure), ...others] };
}

/** While a mirror or its volume is going, its standby still has to be told of the mirrors behind it that go. */
export function planStandbyLinks(fact: MirrorFact, context: MirrorContext): AgentAction | undefined {
  const { placed, view, standing } = fact;
  const { volume, world, facts } = context;
  if (standing !== 'standby' || placed === undefined || view === undefined || volume === undefined) return undefined;
  const mirrors = wantedLinks(volume, view, facts, fact.name);
  if (sameLinks(view, mirrors)) return undefined;
  const spec = changedCopySpec(view, volume, { epoch: view.epoch, mirrors, onLoss: 'suspend' });
  const action = { type: 'put-volume', node: placed.node, volume: placed.volume, spec } as const;
  return failureOf(world.outcomes, action) === undefined ? action : undefined;
}

/**
 * A copy that was the primary in an older epoch becomes a standby of this one. Not before the new primary is one, nor while
 * a device of the old one is in use (rule 7); and never by itself over writes that only it may have.
 */
function planReturn(fact: MirrorFact, volume: PrimaryVolume, { world, primary, facts }: MirrorContext): MirrorStep {
  const { placed, view, name } = fact;
  if (placed === undefined || view === undefined || primary === undefined) return volumeNotReady(volume);
  const was = `its copy on node ${placed.node} was the primary in epoch ${view.epoch}`;
  if (!isSuperseded(primary.record, name, view.epoch)) {
    return says(
      'SplitBrain',
      `${was} and may have acknowledged writes that the primary does not have; it is left as it is`,
    );
  }
  if (viewOf(primary.observation)?.role !== 'primary' || primary.due !== undefined || primary.trouble !== undefined)
    return says('FormerPrimary', `${was}; it becomes a standby when the new primary is there`);
  if (view.attached) return says('FormerInUse', `${was}, and somebody still uses it there`);
  const mirrors = wantedLinks(volume, view, facts, name);
  const spec = changedCopySpec(view, volume, { role: 'standby', epoch: primary.epoch, mirrors, onLoss: 'suspend' });
  const action = { type: 'put-volume', node: placed.node, volume: placed.volume, spec } as const;
  const failure = failureOf(world.outcomes, action);
  const returning = says('Returning', `${was}; it is being made a standby of epoch ${primary.epoch}`);
  if (failure === undefined) return { ...returning, action };
  return { findings: [notReadyAfter(failure), ...returning.findings.slice(1)] };
}

/** What is wrong with the mirror that a cascade names, if anything is. */
function cascadeObstacle(fact: MirrorFact, { facts }: MirrorContext): MirrorStep | undefined {
  const upstream = upstreamName(fact);
  if (upstream === undefined) return undefined;
  const before = facts.find(({ name, reversed }) => name === upstream && !reversed);
  if (before === undefined)
    return says('MirrorNotFound', `there is no StandbyMirror ${upstream} of PrimaryVolume ${volumeName(fact)}`);
  if (before === fact || upstreamName(before) !== undefined)
    return says('NotSupported', `mirror ${upstream} is behind another mirror itself: one behind the other at most`);
  return undefined;
}

function says(reason: string, message: string): MirrorStep {
  return { findings: [notReady(reason, message), { type: 'InSync', status: 'False', reason, message }] };
}

function volumeNotReady(volume: PrimaryVolume): MirrorStep {
  return says('VolumeNotReady', `PrimaryVolume ${volume.metadata.name} is not ready yet`);
}

function volumeName(fact: MirrorFact): string {
  return fact.mirror.spec.primaryVolumeRef?.name ?? '(none)';
}

function planPlacement(
  fact: MirrorFact,
  spec: StandbyMirrorSpec,
  volume: PrimaryVolume,
  volumeSpec: PrimaryVolumeSpec,
  primary: PrimaryFact,
  world: VolumeWorld,
): MirrorStep {
  if (fact.link !== undefined && isMoving(volume, fact))
    return says('Unlinking', 'its standby was given up, and the primary is being told that the link to it goes');
  const placement = placeStandby(fact, spec, volume, volumeSpec, primary, world);
  if (!placement.ok) return says(placement.reason, placement.message);
  return placedOn(placement, spec, volume);
}

function placedOn(placement: Placement & { ok: true }, spec: StandbyMirrorSpec, volume: PrimaryVolume): MirrorStep {
  return {
    placement: {
      node: placement.node,
      pool: spec.pool,
      volume: agentVolumeName(volume),
      accepted: acceptedPart(standbyMirrors, spec),
    },
    ...says('Pending', `the standby is being created on node ${placement.node}`),
  };
}

/**
 * What the standby's agent has to be told, or undefined if nothing. It waits for a primary that is there, keeps the epoch
 * of that, and is never told a lower one than it has.
 */
function standbySpec(
  fact: MirrorFact,
  volume: PrimaryVolume,
  { volumeSpec, primary, facts }: MirrorContext,
): VolumeSpecInput | undefined {
  const { placed, observation, view } = fact;
  const primaryView = primary && viewOf(primary.observation);
  if (placed === undefined || volumeSpec === undefined || primary === undefined || !isHeld(fact.mirror))
    return undefined;
  // A standby that knew a newer epoch than its primary would fence it.
  if (primaryView?.role !== 'primary' || primary.trouble !== undefined || primary.due !== undefined) return undefined;
  // The copy that the volume began with is made only where it has been given another node.
  const made = volume.status?.copies?.some(({ name, state }) => name === fact.name && state === 'Pending');
  if (observation?.kind === 'absent' && fact.reversed && !made) return undefined;
  if (observation?.kind === 'absent') {
    return newCopySpec(volume, volumeSpec, {
      pool: placed.pool,
      role: 'standby',
      epoch: primary.epoch,
      buffer: fact.buffer,
    });
  }
  if (view === undefined || view.state === 'Recovering') return undefined;
  const changed = changedCopySpec(view, volume, {
    epoch: primary.epoch,
    size: parseQuantity(volumeSpec.size),
    buffer: fact.buffer,
    mirrors: wantedLinks(volume, view, facts, fact.name),
    onLoss: 'suspend',
  });
  return isAsSpecified(view, changed) ? undefined : changed;
}
