import type { Finding } from '../resources/conditions.ts';
import type { PrimaryVolume, StaleCopy } from '../resources/primary-volume.ts';
import { type AgentAction, failureOf } from './actions.ts';
import { failureReason, listNames, unseen } from './findings.ts';
import type { MirrorFact } from './mirror-facts.ts';
import type { PrimaryFact } from './primary.ts';
import { lossOfPrimary } from './primary-loss.ts';
import { isInStaleCopy } from './stale-copies.ts';
import { agentVolumeName, observe, type VolumeWorld } from './volume-world.ts';

export interface StaleCopiesPlan {
  /** Those of which something is left, or may be. */
  readonly left: readonly StaleCopy[];
  readonly actions: readonly AgentAction[];
  readonly findings: readonly Finding[];
}

interface Step {
  readonly action?: AgentAction;
  readonly why?: { readonly reason: string; readonly message: string };
}

/**
 * A copy that was given up is removed when its node is back: by then there is nothing in it that others lack. It stays as long
 * as a Snapshot has its content there, and until the standby in its place is in sync, so that nothing is removed before there
 * is something better. Pure.
 */
export function planStaleCopies(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  facts: readonly MirrorFact[],
): StaleCopiesPlan {
  const left = (volume.status?.staleCopies ?? []).filter(({ node }) => seen(world, volume, node).kind !== 'absent');
  const steps = left.map((copy) => stepFor(copy, world, volume, primary, facts));
  const messages = left.flatMap(({ name, node }, at) => {
    const why = steps[at]?.why;
    return why === undefined ? [] : [`${name} on node ${node}: ${why.message}`];
  });
  const reason = steps.find(({ why }) => why !== undefined)?.why?.reason;
  return {
    left,
    actions: steps.flatMap(({ action }) => action ?? []),
    findings: reason === undefined ? [] : [{ type: 'StaleCopy', status: 'True', reason, message: messages.join('; ') }],
  };
}

function seen(world: VolumeWorld, volume: PrimaryVolume, node: string) {
  return observe(world, node, agentVolumeName(volume));
}

function stepFor(
  copy: StaleCopy,
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  facts: readonly MirrorFact[],
): Step {
  const { name, node, epoch } = copy;
  const observation = seen(world, volume, node);
  if (observation.kind !== 'present')
    return {
      why: {
        reason: 'NodeAway',
        message: `it is removed when its node is back (${unseen(node, observation).message})`,
      },
    };
  const { view } = observation;
  if (view.attached) return { why: { reason: 'InUse', message: 'somebody still uses it there' } };
  if (view.role === 'primary' && view.epoch > epoch)
    return {
      why: { reason: 'MayHaveDiverged', message: `it was made the primary of epoch ${view.epoch} at its agent` },
    };
  const kept = world.snapshots.filter((snapshot) => snapshot.status?.node === node && isInStaleCopy(volume, snapshot));
  if (kept.length > 0) {
    const names = listNames(kept.map(({ metadata }) => metadata.name));
    return { why: { reason: 'HoldsSnapshots', message: `it is kept until these Snapshots are deleted: ${names}` } };
  }
  const successor = facts.find((fact) => fact.name === name && fact.placed !== undefined);
  const replaced = successor === undefined || successor.standing === 'promoted' || isFollowing(successor);
  if (!replaced || lossOfPrimary(world, primary) !== undefined || primary.due || primary.trouble)
    return { why: { reason: 'WaitingForSync', message: 'it is kept until what takes its place is in sync' } };
  const action = { type: 'delete-volume', node, volume: agentVolumeName(volume) } as const;
  const failure = failureOf(world.outcomes, action);
  return failure === undefined ? { action } : { why: { reason: failureReason(failure), message: failure.message } };
}

function isFollowing({ link }: MirrorFact): boolean {
  return link?.state === 'InSync' || link?.state === 'Lagging';
}
