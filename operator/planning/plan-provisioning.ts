import { driverName } from '../../common/csi/driver.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { claimUidLabel, group, version } from '../resources/group.ts';
import type { NewObject } from '../resources/kube-object.ts';
import type { PrimaryVolume, PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../resources/storage-kinds.ts';
import { isDeleting } from './object-plan.ts';
import { type Cluster, place } from './placement.ts';
import { type ClaimRequest, planClaim, sizeOf } from './plan-claim.ts';

/** Everything that the plan for a claim depends on. */
export interface ProvisioningWorld {
  readonly claim: PersistentVolumeClaim;
  readonly storageClass: StorageClass | undefined;
  /** The PrimaryVolume that was made for this claim. */
  readonly volume: PrimaryVolume | undefined;
  /** The names that PrimaryVolumes and StandbyMirrors have in its namespace, except those made for it. */
  readonly takenNames: ReadonlySet<string>;
  readonly cluster: Cluster;
}

export type ProvisioningStep =
  | { readonly type: 'nothing' }
  | { readonly type: 'create'; readonly volume: NewObject<PrimaryVolume> }
  /** The volume is there, its mirror is still to be made. */
  | { readonly type: 'mirror'; readonly volume: PrimaryVolume; readonly mirror: NewObject<StandbyMirror> }
  /** It cannot be had; only a change of the claim or its class can help. */
  | { readonly type: 'refuse'; readonly reason: string; readonly message: string }
  /** Not on the node that the scheduler has chosen: it has to choose again. */
  | { readonly type: 'reschedule'; readonly message: string }
  /** The claim has been enlarged; its volume is to be so many bytes. */
  | { readonly type: 'grow'; readonly bytes: number };

export const selectedNodeAnnotation = 'volume.kubernetes.io/selected-node';
/**
 * On a PrimaryVolume that was made for a claim, until the mirror of that name is made too: a mirror that is missing later
 * is one that someone has deleted.
 */
export const pendingMirrorAnnotation = `${group}/pending-mirror`;
/** Who is to provision, as Kubernetes writes it: since 1.23, and before. */
const provisionerAnnotations = [
  'volume.kubernetes.io/storage-provisioner',
  'volume.beta.kubernetes.io/storage-provisioner',
] as const;
const oldClassAnnotation = 'volume.beta.kubernetes.io/storage-class';
/** Leaves room for what is appended to it. */
const longestName = 220;

/** What is to be done for a claim whose StorageClass names us as the provisioner. */
export function planProvisioning(world: ProvisioningWorld): ProvisioningStep {
  const { claim, storageClass, volume } = world;
  if (isDeleting(claim)) return { type: 'nothing' };
  if (volume !== undefined && !isMirrorPending(volume)) return planGrowth(claim, volume);
  if (storageClass === undefined) return { type: 'nothing' };
  if (volume === undefined && !isOursToProvision(claim, storageClass)) return { type: 'nothing' };
  const unsupported = unsupportedPart(claim);
  if (unsupported !== undefined) return refuse(unsupported);
  const topology = topologyOf(storageClass, claim);
  if (!topology.ok) return refuse(topology.message);
  const volumeName = volume?.metadata.name ?? volumeNameFor(world);
  const request = { ...requestOf(claim, storageClass, volumeName), topology: topology.labels };
  const plan = planClaim(storageClass.parameters ?? {}, request);
  if (!plan.ok) return refuse(plan.message);
  const mirror = plan.mirror && { ...objectFor('StandbyMirror', `${volumeName}-standby`, claim), spec: plan.mirror };
  if (volume !== undefined) return mirror === undefined ? { type: 'nothing' } : { type: 'mirror', volume, mirror };
  const obstacle = obstacleThere(plan.volume, claim, world.cluster);
  if (obstacle !== undefined) return { type: 'reschedule', message: obstacle };
  const object = objectFor('PrimaryVolume', volumeName, claim);
  const annotations = mirror === undefined ? {} : { [pendingMirrorAnnotation]: mirror.metadata.name };
  return { type: 'create', volume: { ...object, metadata: { ...object.metadata, annotations }, spec: plan.volume } };
}

function isMirrorPending(volume: PrimaryVolume): boolean {
  return volume.metadata.annotations?.[pendingMirrorAnnotation] !== undefined && !isDeleting(volume);
}

/** The class of a claim, by whichever way it is named. */
export function classNameOf(claim: PersistentVolumeClaim): string | undefined {
  return claim.spec.storageClassName ?? claim.metadata.annotations?.[oldClassAnnotation];
}

function refuse(message: string): ProvisioningStep {
  return { type: 'refuse', reason: 'ProvisioningFailed', message };
}

/**
 * Only once Kubernetes says so: until then it may still bind the claim to a volume that is there, or wait for the first
 * consumer.
 */
function isOursToProvision(claim: PersistentVolumeClaim, storageClass: StorageClass): boolean {
  const { annotations = {} } = claim.metadata;
  if (storageClass.provisioner !== driverName || (claim.spec.volumeName ?? '') !== '') return false;
  if (!provisionerAnnotations.some((name) => annotations[name] === driverName)) return false;
  return storageClass.volumeBindingMode !== 'WaitForFirstConsumer' || Boolean(annotations[selectedNodeAnnotation]);
}

function unsupportedPart({ spec }: PersistentVolumeClaim): string | undefined {
  if (spec.selector !== undefined) return 'spec.selector: a new volume has no labels to select it by; remove it';
  const source = spec.dataSourceRef ?? spec.dataSource;
  if (source === undefined) return undefined;
  return `spec.dataSource: a claim cannot be filled from ${source.kind} ${source.name}; make a SnapshotRestore with newVolume, and use the claim of that volume`;
}

type Topology =
  | { readonly ok: true; readonly labels: Readonly<Record<string, string>> }
  | { readonly ok: false; readonly message: string };

/** With WaitForFirstConsumer the scheduler has seen to it. */
function topologyOf(storageClass: StorageClass, claim: PersistentVolumeClaim): Topology {
  const terms = storageClass.allowedTopologies ?? [];
  if (terms.length === 0 || selectedNodeOf(storageClass, claim) !== undefined) return { ok: true, labels: {} };
  const [term] = terms;
  const expressions = term?.matchLabelExpressions ?? [];
  if (terms.length === 1 && expressions.every(({ values }) => values.length === 1)) {
    return { ok: true, labels: Object.fromEntries(expressions.map(({ key, values }) => [key, values[0] ?? ''])) };
  }
  const message =
    'allowedTopologies of the StorageClass: with volumeBindingMode Immediate, one term with one value for each label is possible; use WaitForFirstConsumer';
  return { ok: false, message };
}

function selectedNodeOf(storageClass: StorageClass, claim: PersistentVolumeClaim): string | undefined {
  if (storageClass.volumeBindingMode !== 'WaitForFirstConsumer') return undefined;
  return claim.metadata.annotations?.[selectedNodeAnnotation];
}

function requestOf(claim: PersistentVolumeClaim, storageClass: StorageClass, volumeName: string): ClaimRequest {
  const { resources = {}, volumeMode = 'Filesystem', accessModes = [] } = claim.spec;
  const limit = resources.limits?.storage;
  return {
    volumeName,
    requestedBytes: parseQuantity(resources.requests?.storage ?? 0),
    limitBytes: limit === undefined ? undefined : parseQuantity(limit),
    volumeMode,
    accessModes,
    selectedNode: selectedNodeOf(storageClass, claim),
    reclaimPolicy: storageClass.reclaimPolicy === 'Retain' ? 'Retain' : 'Delete',
    mountOptions: storageClass.mountOptions ?? [],
    claim: { name: claim.metadata.name, storageClassName: storageClass.metadata.name },
  };
}

/** The name of the claim where that is free, so that people find it; else one that always is. */
function volumeNameFor({ claim, takenNames }: ProvisioningWorld): string {
  const { name, uid } = claim.metadata;
  const free = name.length <= longestName && !takenNames.has(name) && !takenNames.has(`${name}-standby`);
  return free ? name : `pvc-${uid}`;
}

/** Why the volume cannot be on the node that the scheduler has chosen for its consumer. */
function obstacleThere(spec: PrimaryVolumeSpec, claim: PersistentVolumeClaim, cluster: Cluster): string | undefined {
  const { nodeName, pool, size, buffer } = spec;
  if (nodeName === undefined) return undefined;
  const placement = place(
    {
      owner: claim.metadata.uid,
      nodeName,
      pool,
      bytes: parseQuantity(size),
      buffer: buffer && { pool: buffer.pool, bytes: parseQuantity(buffer.capacity) },
      taken: new Map(),
    },
    cluster,
  );
  return placement.ok ? undefined : placement.message;
}

function objectFor(kind: 'PrimaryVolume' | 'StandbyMirror', name: string, claim: PersistentVolumeClaim) {
  const { namespace = '', uid } = claim.metadata;
  return { apiVersion: `${group}/${version}`, kind, metadata: { name, namespace, labels: { [claimUidLabel]: uid } } };
}

function planGrowth(claim: PersistentVolumeClaim, volume: PrimaryVolume): ProvisioningStep {
  const asked = parseQuantity(claim.spec.resources?.requests?.storage ?? 0);
  const bytes = sizeOf({ requestedBytes: asked });
  if (isDeleting(volume) || bytes <= parseQuantity(volume.spec.size)) return { type: 'nothing' };
  return { type: 'grow', bytes };
}

/** Whether what was made for a claim goes with it. Retain on the PersistentVolume itself is honoured too. */
export function isReclaimed(volume: PrimaryVolume, persistentVolume: PersistentVolume | undefined): boolean {
  if (isDeleting(volume) || volume.spec.reclaimPolicy === 'Retain') return false;
  return persistentVolume?.spec.persistentVolumeReclaimPolicy !== 'Retain';
}
