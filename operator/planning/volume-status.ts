import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { Finding } from '../resources/conditions.ts';
import { type CopyState, originCopy, type PrimaryVolume, type VolumeCopy } from '../resources/primary-volume.ts';
import { actionKey, type Observation } from './actions.ts';
import { listNames, notReady, unseen } from './findings.ts';
import type { MirrorFact } from './mirror-facts.ts';
import { knownCopies, type PrimaryFact } from './primary.ts';
import { agentVolumeName, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** Every copy of the volume, with what is known about it now. */
export function copiesStatus(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): VolumeCopy[] {
  return knownCopies(world, volume).flatMap(({ name, node, pool }) => {
    const before = volume.status?.copies?.find((copy) => copy.name === name);
    const observation = observe(world, node, agentVolumeName(volume));
    const view = viewOf(observation);
    const role = roleOf(node, view, before, primary);
    if (isForgotten({ name, role }, observation, primary, mirrors)) return [];
    const epoch = view?.epoch ?? before?.epoch;
    const onLoss = toldOnLoss(world, volume, node) ?? before?.onLoss;
    return [
      {
        name,
        node,
        pool: view?.pool ?? pool,
        role,
        state: stateOf(role, observation, before, linkState(name, mirrors)),
        ...(epoch === undefined ? {} : { epoch }),
        ...(onLoss === undefined ? {} : { onLoss }),
      },
    ];
  });
}

function roleOf(
  node: string,
  view: VolumeView | undefined,
  before: VolumeCopy | undefined,
  primary: PrimaryFact,
): VolumeCopy['role'] {
  if (node === primary.node) return 'Primary';
  if (view !== undefined) return view.role === 'primary' ? 'Former' : 'Standby';
  return before === undefined || before.role === 'Standby' ? 'Standby' : 'Former';
}

/**
 * The copy of a mirror that is gone is forgotten when nothing is left of it: neither itself nor the primary's link to it
 * (which the operator removes because the copy is still listed here).
 */
function isForgotten(
  copy: { readonly name: string; readonly role: VolumeCopy['role'] },
  observation: Observation,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): boolean {
  if (copy.name === originCopy || copy.role === 'Primary' || mirrors.some(({ name }) => name === copy.name))
    return false;
  const primaryView = viewOf(primary.observation);
  if (primaryView === undefined || primaryView.mirrors.some(({ name }) => name === copy.name)) return false;
  return copy.role === 'Standby' || observation.kind === 'absent';
}

function linkState(name: string, mirrors: readonly MirrorFact[]): CopyState | undefined {
  return mirrors.find((fact) => fact.name === name)?.link?.state;
}

function stateOf(
  role: VolumeCopy['role'],
  observation: Observation,
  before: VolumeCopy | undefined,
  link: CopyState | undefined,
): CopyState {
  // A copy that may not have been created yet is not missing.
  const neverSeen = before === undefined || before.state === 'Pending';
  switch (observation.kind) {
    case 'absent':
      return neverSeen ? 'Pending' : 'Missing';
    case 'unreachable':
    case 'no-agent':
      return neverSeen ? 'Pending' : 'Unreachable';
    case 'present':
      if (role === 'Primary') return observation.view.state;
      if (role === 'Former') return 'Outdated';
      return link ?? observation.view.link?.state ?? 'Connecting';
  }
}

/** What the primary on that node was told successfully in this reconciliation; its view does not say it. */
function toldOnLoss(world: VolumeWorld, volume: PrimaryVolume, node: string): VolumeCopy['onLoss'] {
  const outcome = world.outcomes.get(actionKey({ type: 'put-volume', node, volume: agentVolumeName(volume) }));
  if (!outcome?.ok || outcome.action.type !== 'put-volume') return undefined;
  const { role, onLoss, mirrors = [] } = outcome.action.spec;
  return role === 'primary' && mirrors.length > 0 ? onLoss : undefined;
}

/** Whether the volume can be used now, by what its primary says. */
export function primaryFinding(volume: PrimaryVolume, primary: PrimaryFact): Finding {
  if (primary.trouble !== undefined) return notReady(primary.trouble.reason, primary.trouble.message);
  if (primary.due === 'promotion')
    return notReady('Promoting', `node ${primary.node} is being made the primary of epoch ${primary.epoch}`);
  const { observation } = primary;
  if (observation.kind === 'present') return stateFinding(observation.view);
  const recorded = volume.status?.copies?.find((copy) => copy.name === primary.copy);
  if (observation.kind === 'absent' && recorded?.state === 'Pending') {
    return notReady('Pending', `it is being created on node ${primary.node}`);
  }
  const { reason, message } = unseen(primary.node, observation);
  const hint =
    reason === 'CopyMissing' ? ': its disk was lost or cleaned; promote a standby, or delete this volume' : '';
  return notReady(reason, message + hint);
}

function stateFinding(view: VolumeView): Finding {
  const error = view.lastError === undefined ? '' : `: ${view.lastError}`;
  const { restore } = view;
  if (restore?.state === 'Running')
    return notReady('Restoring', `it is being put back to snapshot ${restore.snapshot}`);
  if (restore?.state === 'Failed') {
    const why = restore.lastError === undefined ? '' : `: ${restore.lastError}`;
    return notReady('HalfRestored', `a restore to snapshot ${restore.snapshot} cannot go on${why}`);
  }
  switch (view.state) {
    case 'Ready':
      return { type: 'Ready', status: 'True', reason: 'Available', message: 'it can be used' };
    case 'Suspended':
      return notReady('Suspended', `writes wait until a standby is back${error}`);
    case 'Recovering':
      return notReady('Recovering', `the agent is recovering it${error}`);
    case 'Fenced':
      return notReady('Fenced', `a newer epoch exists, so that this copy acknowledges nothing any more${error}`);
    case 'Failed':
      return notReady('DiskFailed', `the disk of the primary failed${error}`);
  }
}

/** Whether losing the primary now would lose nothing. */
export function protectedFinding(primary: PrimaryFact | undefined, mirrors: readonly MirrorFact[]): Finding {
  const view = primary && viewOf(primary.observation);
  if (primary === undefined || view === undefined) {
    return { type: 'Protected', status: 'Unknown', reason: 'PrimaryUnseen', message: 'the primary says nothing now' };
  }
  const synchronous = view.mirrors.filter(({ mode }) => mode === 'synchronous');
  const inSync = synchronous.filter(({ state }) => state === 'InSync').map(({ name }) => name);
  if (inSync.length > 0) {
    const message = `every acknowledged write is on the standby of ${listNames(inSync)} too`;
    return { type: 'Protected', status: 'True', reason: 'InSync', message };
  }
  if (synchronous.length > 0) {
    const states = listNames(synchronous.map(({ name, state }) => `${name} is ${state}`));
    return { type: 'Protected', status: 'False', reason: 'MirrorNotInSync', message: states };
  }
  const message = mirrors.length === 0 ? 'no StandbyMirror names it' : 'no synchronous mirror is linked to it yet';
  return { type: 'Protected', status: 'False', reason: 'NoMirror', message };
}
