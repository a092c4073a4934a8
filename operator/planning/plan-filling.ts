import type { FillingView } from '../../agent/api/contract/filling.ts';
import { formatBytes, parseQuantity } from '../../common/quantity.ts';
import { isConditionTrue } from '../resources/conditions.ts';
import { restoreUidLabel } from '../resources/group.ts';
import type { NewObject } from '../resources/kube-object.ts';
import { type PrimaryVolume, primaryVolumes } from '../resources/primary-volume.ts';
import { apiVersionOf } from '../resources/resource.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import {
  type NewVolume,
  type SnapshotRestore,
  type SnapshotRestoreSpec,
  type SnapshotRestoreStatus,
  snapshotRestores,
} from '../resources/snapshot-restore.ts';
import { acceptedPart } from '../resources/validate-spec.ts';
import { type AgentAction, actionKey, failureOf } from './actions.ts';
import { notReady, notReadyAfter, unseen } from './findings.ts';
import { blockedFinding, isAbandoned, isHeld } from './object-plan.ts';
import { going, live, over, type RestorePlan, type RestoreWorld, whyNotReady } from './restore-plan.ts';
import { agentSnapshotName } from './snapshot-world.ts';
import { agentVolumeName } from './volume-world.ts';

type Source = NonNullable<SnapshotRestoreStatus['source']>;

/**
 * Plans a restore into a new volume: where the content is is written down, the volume is made and gets its place, its
 * snapshot is kept for it and made readable from there, its agent is told to begin (see plan-source.ts), and when it is
 * filled the snapshot is released. What always holds:
 *
 * - The volume is made once, and only this restore's own is filled.
 * - The snapshot is kept before the volume can be created at an agent, until that has all of its content or is gone.
 */
export function planFilling(world: RestoreWorld, spec: SnapshotRestoreSpec, wanted: NewVolume): RestorePlan {
  const { source } = world.restore.status ?? {};
  return source === undefined ? planBegin(world, spec, wanted) : planBegun(world, wanted, source);
}

/** The object stays while the volume needs the snapshot; abandoned, the volume loses what it does not have yet. */
export function planFillingDeletion(world: RestoreWorld): RestorePlan {
  const { restore, outcomes } = world;
  const status = restore.status ?? {};
  const target = ownTarget(world);
  if (status.source === undefined || status.completedAt !== undefined) return going(world, 'release');
  if (target !== undefined && !isAbandoned(restore)) {
    const message = `PrimaryVolume ${target.metadata.name} is still being filled from its snapshot: it is waited for`;
    return going(world, 'keep', [blockedFinding({ reason: 'Filling', message })]);
  }
  const action = holdAction('delete-hold', status.source, status.volume ?? '', '');
  if (!outcomes.has(actionKey(action))) return { ...going(world, 'keep'), actions: [action] };
  const failure = failureOf(outcomes, action);
  if (failure === undefined || isAbandoned(restore)) return going(world, 'release');
  const message = `its snapshot could not be released: ${failure.message}`;
  return going(world, 'keep', [blockedFinding({ reason: 'SnapshotHeld', message })]);
}

function planBegin(world: RestoreWorld, spec: SnapshotRestoreSpec, { name, size }: NewVolume): RestorePlan {
  const { restore, snapshot, volume, target } = world;
  const wait = (reason: string, message: string) => live(world, restore.status ?? {}, notReady(reason, message));
  if (snapshot === undefined)
    return wait('SnapshotNotFound', `there is no Snapshot ${spec.snapshot} in this namespace`);
  if (!isConditionTrue(snapshot.status?.conditions, 'Ready')) return wait('SnapshotNotReady', whyNotReady(snapshot));
  const { node, volume: of, sizeBytes } = snapshot.status ?? {};
  if (volume === undefined || node === undefined || of !== agentVolumeName(volume) || sizeBytes === undefined)
    return wait('VolumeNotFound', `the PrimaryVolume of Snapshot ${spec.snapshot} is not there`);
  if (size !== undefined && parseQuantity(size) < sizeBytes)
    return wait('TooSmall', `newVolume.size: the snapshot has ${formatBytes(sizeBytes)}, ${size} is less`);
  if (target !== undefined)
    return wait('NameTaken', `there is a PrimaryVolume ${name} already: delete it, or choose another name`);
  const source = { node, volume: of, uid: volume.metadata.uid, snapshot: agentSnapshotName(snapshot) };
  const begun = { primaryVolume: name, source, accepted: acceptedPart(snapshotRestores, spec) };
  return live(world, isHeld(restore) ? begun : {}, notReady('Pending', `PrimaryVolume ${name} is to be made`));
}

function planBegun(world: RestoreWorld, wanted: NewVolume, source: Source): RestorePlan {
  const { restore, target, volume, snapshot, primary } = world;
  const status = restore.status ?? {};
  const wait = (reason: string, message: string) => live(world, status, notReady(reason, message));
  if (target === undefined) {
    if (status.volume !== undefined) return released(world, status, source, 'VolumeDeleted', 'the new volume is gone');
    if (volume === undefined || snapshot === undefined)
      return wait('SnapshotNotFound', 'the Snapshot or its PrimaryVolume is gone');
    const waiting = wait('Pending', `PrimaryVolume ${wanted.name} is being made`);
    return { ...waiting, makeVolume: newVolume(restore, wanted, volume, snapshot) };
  }
  if (ownTarget(world) === undefined)
    return wait('NameTaken', `there is a PrimaryVolume ${wanted.name} already, which is not of this restore`);
  const known = { ...status, volume: agentVolumeName(target) };
  const { node } = target.status ?? {};
  if (node === undefined) return live(world, known, notReady('Pending', 'the new volume has no node yet'));
  const placed = { ...known, node };
  if (primary?.kind === 'present') return told(world, placed, source, primary.view.filling, primary.view.state);
  if (source.heldFor === node) {
    const { reason, message } =
      primary === undefined || primary.kind === 'absent'
        ? { reason: 'Pending', message: `the new volume is being created on node ${node}` }
        : unseen(node, primary);
    return live(world, placed, notReady(reason, message));
  }
  return held(world, placed, source, node);
}

/** Keeps the snapshot, and lets the node of the new volume read it; that is written down before the volume is created. */
function held(world: RestoreWorld, status: SnapshotRestoreStatus, source: Source, node: string): RestorePlan {
  const { outcomes } = world;
  const action = holdAction('put-hold', source, status.volume ?? '', node);
  const failure = failureOf(outcomes, action);
  if (failure !== undefined) return live(world, status, notReadyAfter(failure));
  const waiting = notReady('Pending', `node ${node} is being allowed to read the snapshot`);
  if (outcomes.has(actionKey(action))) return live(world, { ...status, source: { ...source, heldFor: node } }, waiting);
  return { ...live(world, status, waiting), actions: [action] };
}

function told(
  world: RestoreWorld,
  status: SnapshotRestoreStatus,
  source: Source,
  filling: FillingView | undefined,
  state: string,
): RestorePlan {
  const startedAt = status.startedAt ?? world.now;
  if (filling === undefined) {
    // A standby that has taken over held everything before it could.
    if (state === 'Ready' || state === 'Suspended')
      return released(
        world,
        { ...status, startedAt },
        source,
        'Restored',
        'another copy of the volume holds all of it',
      );
    return live(world, { ...status, startedAt }, notReady('Pending', 'the new volume is being recovered'));
  }
  const { totalBytes, filledBytes, lastError, lost } = filling;
  const percent = Math.floor((100 * filledBytes) / totalBytes);
  const progress = { totalBytes, checkedBytes: filledBytes, writtenBytes: filledBytes, percent };
  const measured = { ...status, startedAt, progress };
  if (filling.state === 'Filled')
    return released(world, measured, source, 'Restored', 'the new volume holds what the snapshot holds');
  if (lastError === undefined)
    return live(world, measured, notReady('Filling', 'the new volume can be used, and is being filled'));
  return live(world, measured, notReady(lost ? 'SourceLost' : 'SourceUnreachable', lastError));
}

/** It is over once the snapshot is released. */
function released(
  world: RestoreWorld,
  status: SnapshotRestoreStatus,
  source: Source,
  reason: 'Restored' | 'VolumeDeleted',
  message: string,
): RestorePlan {
  const { outcomes } = world;
  const action = holdAction('delete-hold', source, status.volume ?? '', '');
  const failure = failureOf(outcomes, action);
  if (failure !== undefined)
    return live(world, status, notReady('Releasing', `${message}; its snapshot is still kept: ${failure.message}`));
  const finding = { type: 'Ready', status: reason === 'Restored' ? 'True' : 'False', reason, message } as const;
  if (outcomes.has(actionKey(action))) return over(world, status, finding);
  return { ...live(world, status, notReady('Releasing', message)), actions: [action] };
}

/** The hold has the name of the volume that it is for. */
function holdAction(
  type: 'put-hold' | 'delete-hold',
  source: Source,
  hold: string,
  reader: string,
): AgentAction & { readonly snapshot: string } {
  const { node, volume, snapshot } = source;
  return { type, node, volume, snapshot, hold, reader };
}

function ownTarget({ restore, target }: RestoreWorld): PrimaryVolume | undefined {
  return target?.metadata.labels?.[restoreUidLabel] === restore.metadata.uid ? target : undefined;
}

/** Its size is that of the snapshot unless told; what the content decides is as at the volume that it is of. */
function newVolume(
  restore: SnapshotRestore,
  { name, size, ...wanted }: NewVolume,
  { spec: { volumeMode, fsType, blockSize } }: PrimaryVolume,
  snapshot: Snapshot,
): NewObject<PrimaryVolume> {
  const { namespace = '', uid } = restore.metadata;
  return {
    apiVersion: apiVersionOf(primaryVolumes),
    kind: primaryVolumes.kind,
    metadata: { name, namespace, labels: { [restoreUidLabel]: uid } },
    spec: {
      ...wanted,
      size: size ?? snapshot.status?.sizeBytes ?? 0,
      volumeMode,
      fsType,
      blockSize,
      source: { restore: restore.metadata.name },
    },
  };
}
