import { originCopy, type PrimaryVolume, type VolumeCopy } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import { type AgentAction, failureOf } from './actions.ts';
import { failureReason, listNames, unseen } from './findings.ts';
import { feederOf, type MirrorContext, type MirrorFact } from './mirror-facts.ts';
import { type Blocker, isAbandoned } from './object-plan.ts';
import { isInStaleCopy, isMoving } from './stale-copies.ts';
import { agentVolumeName, claimOf, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** The next step of a deletion: something to do, something to wait for, or nothing any more. */
export interface DeletionStep {
  readonly actions: readonly AgentAction[];
  readonly blocker?: Blocker | undefined;
  readonly released: boolean;
}

const released: DeletionStep = { actions: [], released: true };

function blocked(reason: string, message: string): DeletionStep {
  return { actions: [], blocker: { reason, message }, released: false };
}

/**
 * A volume goes last: what depends on it (mirrors that would lose their primary, snapshots that would lose their content)
 * is waited for, by name. Then every copy is removed, unless the data is to be retained.
 */
export function planVolumeDeletion(world: VolumeWorld, volume: PrimaryVolume): DeletionStep {
  const abandoned = isAbandoned(volume);
  const dependents = [
    ...world.mirrors.map(({ metadata }) => `StandbyMirror ${metadata.name}`),
    ...snapshotsOf(world, agentVolumeName(volume)).map(({ metadata }) => `Snapshot ${metadata.name}`),
  ];
  if (dependents.length > 0 && !abandoned)
    return blocked('WaitingForDependents', `it waits for the deletion of ${listNames(dependents)}`);
  const claim = claimOf(world, volume)?.blocker;
  if (claim !== undefined && !abandoned) return { actions: [], blocker: claim, released: false };
  if (volume.spec.reclaimPolicy === 'Retain') return released;
  const steps = ownCopies(volume).map(({ node }) => removeCopy(world, node, agentVolumeName(volume), abandoned));
  const stale = (volume.status?.staleCopies ?? []).map(({ node }) =>
    // Its node may never be back, and then nothing is left of the copy either.
    removeCopy(world, node, agentVolumeName(volume), abandoned || isWithoutAgent(world, volume, node)),
  );
  return together([...steps, ...stale]);
}

function isWithoutAgent(world: VolumeWorld, volume: PrimaryVolume, node: string): boolean {
  return observe(world, node, agentVolumeName(volume)).kind === 'no-agent';
}

/** The copies that no mirror answers for: the first one, and those that have been primaries. */
function ownCopies(volume: PrimaryVolume): VolumeCopy[] {
  return (volume.status?.copies ?? []).filter(({ name, role }) => name === originCopy || role !== 'Standby');
}

/**
 * A mirror is unlinked from its primary first (see planPrimary), then its standby is removed. A copy that has become the
 * primary belongs to the volume: it stays.
 */
export function planMirrorDeletion(fact: MirrorFact, context: MirrorContext): DeletionStep {
  const { world, facts } = context;
  const { placed } = fact;
  if (context.volume !== undefined && isMoving(context.volume, fact) && fact.link !== undefined)
    return blocked('Unlinking', 'its standby was given up, and the primary is being told that the link to it goes');
  if (placed === undefined || fact.standing === 'promoted') return released;
  const abandoned = isAbandoned(fact.mirror);
  if (fact.standing === 'being-promoted') {
    return blocked('PromotionInProgress', `the copy on node ${placed.node} is being promoted`);
  }
  const kept = snapshotsOf(world, placed.volume).filter(
    (snapshot) => snapshot.status?.copy === fact.name && !isInStaleCopy(context.volume, snapshot),
  );
  if (kept.length > 0 && !abandoned) {
    const names = listNames(kept.map(({ metadata }) => metadata.name));
    return blocked(
      'WaitingForDependents',
      `its standby holds the content of the Snapshots ${names}; it waits for their deletion`,
    );
  }
  const behind = facts.filter(({ upstream }) => upstream?.name === fact.name).map(({ name }) => name);
  if (behind.length > 0 && !abandoned) {
    const message = `its standby feeds those of the mirrors ${listNames(behind)}; it waits for their deletion`;
    return blocked('WaitingForDependents', message);
  }
  const claim = claimOf(world, fact.mirror)?.blocker;
  if (claim !== undefined && !abandoned) return { actions: [], blocker: claim, released: false };
  const linked = unlinkBlocker(fact, context);
  if (linked !== undefined && !abandoned) return { actions: [], blocker: linked, released: false };
  return removeCopy(world, placed.node, placed.volume, abandoned);
}

function snapshotsOf(world: VolumeWorld, volume: string): Snapshot[] {
  return world.snapshots.filter(({ status }) => status?.volume === volume && status.snapshot !== undefined);
}

/** Why whoever feeds the standby may still have a link to it; a primary that nobody told would wait for it with its writes. */
function unlinkBlocker(fact: MirrorFact, { world, volume, primary }: MirrorContext): Blocker | undefined {
  const feeder = feederOf(fact, primary);
  if (volume === undefined || feeder === undefined || fact.standing !== 'standby') return undefined;
  const { what, node, observation } = feeder;
  if (observation.kind === 'absent') return undefined;
  const view = viewOf(observation);
  if (view === undefined) {
    const { reason, message } = unseen(node, observation);
    return { reason, message: `${what} has to be told that the mirror goes, but ${message}` };
  }
  if (fact.link === undefined) return undefined;
  const failure = failureOf(world.outcomes, {
    type: 'put-volume',
    node,
    volume: agentVolumeName(volume),
  });
  if (failure !== undefined) {
    return {
      reason: failureReason(failure),
      message: `${what} could not be told that the mirror goes: ${failure.message}`,
    };
  }
  return {
    reason: 'Unlinking',
    message: `${what} on node ${node} (${view.state}) is being told that the mirror goes`,
  };
}

function removeCopy(world: VolumeWorld, node: string, volume: string, abandoned: boolean): DeletionStep {
  const observation = observe(world, node, volume);
  if (observation.kind === 'absent') return released;
  if (observation.kind !== 'present') {
    if (abandoned) return released;
    const { reason, message } = unseen(node, observation);
    return blocked(reason, `its copy on node ${node} has to be removed, but ${message}`);
  }
  const action = { type: 'delete-volume', node, volume } as const;
  const failure = failureOf(world.outcomes, action);
  if (failure === undefined) return { actions: [action], released: false };
  return abandoned
    ? released
    : blocked(failureReason(failure), `its copy on node ${node} could not be removed: ${failure.message}`);
}

function together(steps: readonly DeletionStep[]): DeletionStep {
  return {
    actions: steps.flatMap(({ actions }) => actions),
    blocker: steps.find(({ blocker }) => blocker !== undefined)?.blocker,
    released: steps.every((step) => step.released),
  };
}
