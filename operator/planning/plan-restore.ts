import type { RestoreRequestInput, RestoreView } from '../../agent/api/contract/restore.ts';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { type Finding, findCondition, isConditionTrue } from '../resources/conditions.ts';
import { restoreUidLabel } from '../resources/group.ts';
import type { NewObject } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { apiVersionOf } from '../resources/resource.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type SnapshotRestore,
  type SnapshotRestoreSpec,
  type SnapshotRestoreStatus,
  snapshotRestores,
} from '../resources/snapshot-restore.ts';
import { acceptedPart, describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { type AgentAction, actionKey, failureOf } from './actions.ts';
import { listNames, notReady, notReadyAfter, unseen } from './findings.ts';
import { blockedFinding, isAbandoned, isDeleting, isHeld } from './object-plan.ts';
import { planFilling, planFillingDeletion } from './plan-filling.ts';
import { going, live, over, type RestorePlan, type RestoreWorld, whyNotReady } from './restore-plan.ts';
import { agentSnapshotName } from './snapshot-world.ts';
import { agentVolumeName } from './volume-world.ts';

export function beforeName(restore: SnapshotRestore): string {
  return `before-restore-${restore.metadata.name}`;
}

/** The name of a restore at the agents. */
export function agentRestoreName(restore: SnapshotRestore): string {
  return `restore-${restore.metadata.uid}`;
}

/**
 * Plans one restore: keep what is there, order it at the primary, wherever that is by then, and tell how far it is. What
 * always holds:
 *
 * - It is ordered only after that is written down with the name it has at the agents: whatever happens, it is found again.
 * - What is over is not ordered again: neither here, since completedAt is written down, nor by the agents, which know its
 *   name.
 * - The object stays while the volume is half restored, so that somebody knows.
 */
export function planRestore(world: RestoreWorld): RestorePlan {
  const { restore } = world;
  const status = restore.status ?? {};
  if (isDeleting(restore)) return status.source === undefined ? planDeletion(world) : planFillingDeletion(world);
  if (status.completedAt !== undefined) return live(world, status, previousFinding(restore));
  const spec = validateSpec(snapshotRestores, restore.spec, status.accepted);
  if (!spec.ok) return live(world, status, notReady('Invalid', describeViolations(spec.violations)));
  if (spec.value.newVolume !== undefined) return planFilling(world, spec.value, spec.value.newVolume);
  return status.restore === undefined ? planBegin(world, spec.value) : planOrdered(world, spec.value, status);
}

/** Until there is everything that the order needs. */
function planBegin(world: RestoreWorld, spec: SnapshotRestoreSpec): RestorePlan {
  const { restore, snapshot, volume, before, users } = world;
  const wait = (reason: string, message: string) => live(world, restore.status ?? {}, notReady(reason, message));
  if (snapshot === undefined)
    return wait('SnapshotNotFound', `there is no Snapshot ${spec.snapshot} in this namespace`);
  if (!isConditionTrue(snapshot.status?.conditions, 'Ready')) return wait('SnapshotNotReady', whyNotReady(snapshot));
  if (volume?.status?.node === undefined)
    return wait('VolumeNotFound', 'the PrimaryVolume of the Snapshot is not there');
  if (snapshot.status?.volume !== agentVolumeName(volume))
    return wait(
      'OtherVolume',
      `Snapshot ${spec.snapshot} is of an earlier volume than PrimaryVolume ${volume.metadata.name}`,
    );
  const inUse = useOf(world, spec);
  if (inUse !== undefined)
    return wait(
      'InUse',
      `PrimaryVolume ${volume.metadata.name} is used by ${inUse}: stop them first, or set spec.allowInUse`,
    );
  if (users.length > 0 && !spec.allowInUse) return wait('InUse', `its claim is used by ${listNames(users)}`);
  if (!spec.keepBefore) return order(world, spec, volume, undefined);
  if (before === undefined) {
    const waiting = wait('KeepingBefore', `Snapshot ${beforeName(restore)} of what is there now is being made`);
    return isHeld(restore) ? { ...waiting, makeBefore: newBefore(restore, snapshot) } : waiting;
  }
  if (before.metadata.labels?.[restoreUidLabel] !== restore.metadata.uid)
    return wait(
      'NameTaken',
      `there is a Snapshot ${beforeName(restore)} already, which is not of this restore: delete it, or choose another name`,
    );
  if (!isConditionTrue(before.status?.conditions, 'Ready')) return wait('KeepingBefore', whyNotReady(before));
  return order(world, spec, volume, before);
}

/** First it is written down; the next plan orders it. */
function order(
  world: RestoreWorld,
  spec: SnapshotRestoreSpec,
  volume: PrimaryVolume,
  before: Snapshot | undefined,
): RestorePlan {
  const status: SnapshotRestoreStatus = {
    primaryVolume: volume.metadata.name,
    volume: agentVolumeName(volume),
    ...(before === undefined ? {} : { before: before.metadata.name }),
    ...(isHeld(world.restore) ? { restore: agentRestoreName(world.restore) } : {}),
    accepted: acceptedPart(snapshotRestores, spec),
  };
  return live(world, status, notReady('Pending', 'it is being ordered'));
}

function planOrdered(world: RestoreWorld, spec: SnapshotRestoreSpec, status: SnapshotRestoreStatus): RestorePlan {
  const { volume, primary, outcomes } = world;
  const node = volume?.status?.node;
  if (node === undefined || primary === undefined)
    return live(world, status, notReady('VolumeNotFound', 'its PrimaryVolume is not there'));
  const where = { ...status, node };
  if (primary.kind !== 'present') {
    const { reason, message } = unseen(node, primary);
    return live(world, where, { type: 'Ready', status: 'Unknown', reason, message });
  }
  const seen = primary.view.restore;
  if (seen !== undefined && seen.name === status.restore) return told(world, where, seen);
  if (status.startedAt !== undefined)
    return over(
      world,
      where,
      notReady('Superseded', 'another restore was ordered at the agent, or the volume was made anew'),
    );
  const request = requestOf(world, spec, node, primary.view);
  if (!request.ok) return live(world, where, notReady(request.reason, request.message));
  const action: AgentAction = { type: 'put-restore', node, volume: status.volume ?? '', request: request.value };
  const failure = failureOf(outcomes, action);
  if (failure !== undefined) return live(world, where, notReadyAfter(failure));
  const waiting = live(world, where, notReady('Pending', 'it is being ordered'));
  return outcomes.has(actionKey(action)) ? waiting : { ...waiting, actions: [action] };
}

type Request =
  | { readonly ok: true; readonly value: RestoreRequestInput }
  | { readonly ok: false; readonly reason: string; readonly message: string };

/** The mirror is the one whose standby is where the snapshot is now, whatever was the primary when it was taken. */
function requestOf(world: RestoreWorld, spec: SnapshotRestoreSpec, node: string, view: VolumeView): Request {
  const { restore, snapshot, before, keeperAddress } = world;
  const keeper = snapshot?.status?.node;
  if (snapshot === undefined || keeper === undefined)
    return { ok: false, reason: 'SnapshotNotFound', message: `Snapshot ${spec.snapshot} is gone` };
  const mirror = view.mirrors.find(({ address }) => address === keeperAddress);
  if (keeper !== node && mirror === undefined) {
    const message = `the primary on node ${node} has no mirror on node ${keeper}, which keeps the snapshot`;
    return { ok: false, reason: 'NoMirror', message };
  }
  const value: RestoreRequestInput = {
    name: agentRestoreName(restore),
    snapshot: agentSnapshotName(snapshot),
    ...(keeper === node || mirror === undefined ? {} : { mirror: mirror.name }),
    ...(before === undefined || !spec.keepBefore ? {} : { before: agentSnapshotName(before) }),
    allowInUse: spec.allowInUse,
  };
  return { ok: true, value };
}

/** What the agent says about it. */
function told(world: RestoreWorld, status: SnapshotRestoreStatus, seen: RestoreView): RestorePlan {
  const { startedAt, totalBytes, checkedBytes = 0, writtenBytes = 0, lastError } = seen;
  const percent = totalBytes === 0 ? 100 : Math.floor((100 * checkedBytes) / (totalBytes ?? 1));
  const measured: SnapshotRestoreStatus = {
    ...status,
    startedAt,
    ...(totalBytes === undefined ? {} : { progress: { totalBytes, checkedBytes, writtenBytes, percent } }),
  };
  switch (seen.state) {
    case 'Running':
      return live(world, measured, notReady('Restoring', lastError ?? 'what differs is being written'));
    case 'Failed':
      return live(
        world,
        measured,
        notReady(
          'HalfRestored',
          `it cannot go on: ${lastError ?? ''}. The volume is not offered; restore another Snapshot, or delete this object with the abandon annotation`,
        ),
      );
    case 'GivenUp':
      return over(world, measured, notReady('GivenUp', 'it was given up, the volume is as it was then'));
    case 'Done':
      return over(world, measured, {
        type: 'Ready',
        status: 'True',
        reason: 'Restored',
        message: 'the volume holds what the snapshot holds',
      });
  }
}

/** While the volume is half restored the object stays; abandoned, the restore is given up first, if that can be done. */
function planDeletion(world: RestoreWorld): RestorePlan {
  const { restore, primary, volume, outcomes } = world;
  const status = restore.status ?? {};
  const node = volume?.status?.node;
  const name = status.restore;
  const unfinished = name !== undefined && status.completedAt === undefined && node !== undefined;
  if (!unfinished) return going(world, 'release');
  const seen = primary?.kind === 'present' ? primary.view.restore : undefined;
  const isOpen = seen?.name === name && (seen?.state === 'Running' || seen?.state === 'Failed');
  if (primary?.kind === 'present' && !isOpen) return going(world, 'release');
  if (!isAbandoned(restore)) {
    const what = primary?.kind === 'present' ? 'the volume is half restored' : 'the primary does not say how far it is';
    return going(world, 'keep', [blockedFinding({ reason: 'HalfRestored', message: `${what}: it is waited for` })]);
  }
  const action: AgentAction = { type: 'give-up-restore', node, volume: status.volume ?? '' };
  if (!outcomes.has(actionKey(action))) return { ...going(world, 'keep'), actions: [action] };
  return going(world, 'release');
}

function newBefore(restore: SnapshotRestore, snapshot: Snapshot): NewObject<Snapshot> {
  const { namespace = '', uid } = restore.metadata;
  return {
    apiVersion: apiVersionOf(snapshots),
    kind: snapshots.kind,
    metadata: { name: beforeName(restore), namespace, labels: { [restoreUidLabel]: uid } },
    spec: { source: snapshot.spec.source, consistency: {}, claim: false },
  };
}

function useOf({ primary }: RestoreWorld, { allowInUse }: SnapshotRestoreSpec): string | undefined {
  if (allowInUse || primary?.kind !== 'present' || !primary.view.attached) return undefined;
  return 'whoever has it attached on the node of its primary';
}

/** What was said when it was over. */
function previousFinding(restore: SnapshotRestore): Finding {
  const { status, reason = 'Restored', message = '' } = findCondition(restore.status?.conditions, 'Ready') ?? {};
  return { type: 'Ready', status: status ?? 'Unknown', reason, message };
}

/** Whether a Snapshot is needed by a restore that is not over. */
export function isBeingRestored(snapshot: Snapshot, restores: readonly SnapshotRestore[]): boolean {
  return restores.some(
    ({ metadata, spec, status }) =>
      metadata.namespace === snapshot.metadata.namespace &&
      status?.completedAt === undefined &&
      spec?.snapshot === snapshot.metadata.name,
  );
}
