import { latestSnapshot } from '../../common/csi/driver.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { findCondition } from '../resources/conditions.ts';
import type { Node } from '../resources/core-kinds.ts';
import { claimUidLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { PrimaryVolume, PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import { type StandbyMirror, standbyMirrors } from '../resources/standby-mirror.ts';
import { validateSpec } from '../resources/validate-spec.ts';
import { hostnameOf, nodeLabelValue, primaryLabel, standbyLabel } from './node-labels.ts';
import { agentSnapshotName } from './snapshot-world.ts';
import { agentVolumeName, validVolumeSpec } from './volume-world.ts';

/** A PersistentVolume and a PersistentVolumeClaim that are to be there, bound to each other. */
export interface Binding {
  readonly persistentVolumeName: string;
  readonly claimName: string;
  /** The uid of the claim that it was provisioned for; undefined if the operator makes the claim. */
  readonly provisionedFor?: string | undefined;
  /** What the CSI driver knows it by. */
  readonly handle: string;
  /** The uid of the volume, as agents record it. */
  readonly volumeUid: string;
  readonly capacityBytes: number;
  /** Whether its capacity follows the volume. That of a snapshot is what it was. */
  readonly grows: boolean;
  /** Why it has not the size that it is to have, where something stands in the way. */
  readonly growthBlocked?: string | undefined;
  readonly readOnly: boolean;
  readonly volumeMode: 'Filesystem' | 'Block';
  readonly fsType: string;
  readonly mountOptions: readonly string[];
  readonly storageClassName: string;
  readonly reclaimPolicy: 'Delete' | 'Retain';
  /** The label of the nodes on which it can be used. */
  readonly nodeLabel: { readonly key: string; readonly value: string };
}

/** Undefined where it cannot be told now: an object that is invalid, or not as far yet. What is there then stays. */
export type WantedBinding = Binding | 'unwanted' | undefined;

/** The kinds of which bindings are made. */
export type BindingKind = 'PrimaryVolume' | 'StandbyMirror' | 'Snapshot';

const suffixOfLatest = '-latest';
const prefixes: Readonly<Record<BindingKind, string>> = {
  PrimaryVolume: 'pv-',
  StandbyMirror: 'latest-',
  Snapshot: 'snap-',
};

/** Unique in the cluster, and known before it is made. */
export function persistentVolumeNameOf(kind: BindingKind, object: KubeObject): string {
  return prefixes[kind] + object.metadata.uid;
}

/** The name of the claim of an object, whether there is to be one or not. */
export function claimNameOf(kind: BindingKind, object: PrimaryVolume | StandbyMirror | Snapshot): string {
  if (kind === 'StandbyMirror') return object.metadata.name + suffixOfLatest;
  const spec: object = object.spec ?? {};
  return 'claimName' in spec && typeof spec.claimName === 'string' ? spec.claimName : object.metadata.name;
}

/** Of a volume that is to grow; what only takes its time is not in the way. */
function growthBlocked({ status }: PrimaryVolume): string | undefined {
  const configured = findCondition(status?.conditions, 'Configured');
  const known = configured?.status === 'False' && configured.reason !== 'Pending' && configured.reason !== 'Resizing';
  return known ? configured.message : undefined;
}

/** The live volume; undefined while it has no size yet, or none is wanted. */
export function volumeBinding(volume: PrimaryVolume): WantedBinding {
  const spec = validVolumeSpec(volume);
  if (!spec.ok) return undefined;
  if (!spec.value.claim) return 'unwanted';
  const { sizeBytes, node } = volume.status ?? {};
  if (sizeBytes === undefined || node === undefined) return undefined;
  return {
    ...names('PrimaryVolume', volume),
    provisionedFor: volume.metadata.labels?.[claimUidLabel],
    handle: agentVolumeName(volume),
    volumeUid: volume.metadata.uid,
    capacityBytes: sizeBytes,
    grows: true,
    growthBlocked: growthBlocked(volume),
    readOnly: false,
    ...modeOf(spec.value),
    mountOptions: spec.value.mountOptions ?? [],
    storageClassName: spec.value.storageClassName ?? '',
    reclaimPolicy: spec.value.reclaimPolicy,
    nodeLabel: { key: primaryLabel(volume), value: nodeLabelValue(volume) },
  };
}

/** The newest snapshot of a mirror, whichever that is when a pod mounts it. */
export function latestBinding(mirror: StandbyMirror, volume: PrimaryVolume | undefined): WantedBinding {
  const spec = validateSpec(standbyMirrors, mirror.spec, mirror.status?.accepted);
  if (!spec.ok) return undefined;
  if (!spec.value.claim || spec.value.buffer === undefined) return 'unwanted';
  if (volume === undefined || mirror.status?.node === undefined) return undefined;
  const of = validVolumeSpec(volume);
  if (!of.ok || mirror.status.volume !== agentVolumeName(volume)) return undefined;
  return {
    ...names('StandbyMirror', mirror),
    handle: `${agentVolumeName(volume)}@${latestSnapshot}`,
    volumeUid: volume.metadata.uid,
    capacityBytes: volume.status?.sizeBytes ?? parseQuantity(of.value.size),
    ...readOnlyOf(of.value),
    nodeLabel: { key: standbyLabel(mirror), value: nodeLabelValue(mirror) },
  };
}

/** One snapshot, on the node that holds it; undefined until it was taken. */
export function snapshotBinding(
  snapshot: Snapshot,
  volume: PrimaryVolume | undefined,
  nodes: readonly Node[],
): WantedBinding {
  const spec = validateSpec(snapshots, snapshot.spec, snapshot.status?.accepted);
  if (!spec.ok) return undefined;
  if (!spec.value.claim) return 'unwanted';
  const { takenAt, sizeBytes, node, volume: name } = snapshot.status ?? {};
  if (takenAt === undefined || sizeBytes === undefined || node === undefined || volume === undefined) return undefined;
  const of = validVolumeSpec(volume);
  if (!of.ok || name !== agentVolumeName(volume)) return undefined;
  return {
    ...names('Snapshot', snapshot),
    handle: `${name}@${agentSnapshotName(snapshot)}`,
    volumeUid: volume.metadata.uid,
    capacityBytes: sizeBytes,
    ...readOnlyOf(of.value),
    nodeLabel: { key: 'kubernetes.io/hostname', value: hostnameOf(node, nodes) },
  };
}

function names(kind: BindingKind, object: PrimaryVolume | StandbyMirror | Snapshot) {
  return { persistentVolumeName: persistentVolumeNameOf(kind, object), claimName: claimNameOf(kind, object) };
}

function modeOf(spec: PrimaryVolumeSpec): Pick<Binding, 'volumeMode' | 'fsType'> {
  return { volumeMode: spec.volumeMode, fsType: spec.fsType };
}

function readOnlyOf(spec: PrimaryVolumeSpec) {
  return {
    ...modeOf(spec),
    grows: false,
    readOnly: true,
    // Agents mount a snapshot as it has to be mounted.
    mountOptions: [],
    storageClassName: '',
    // Nothing but the deletion of the snapshot itself removes it.
    reclaimPolicy: 'Retain',
  } as const;
}

/** Which object a binding belongs to: `Snapshot/shop/before-upgrade`. */
export function bindingKey(kind: BindingKind, object: { readonly metadata: KubeObject['metadata'] }): string {
  return `${kind}/${keyText(keyOf(object))}`;
}
