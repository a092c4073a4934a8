import { isDeepStrictEqual } from 'node:util';
import { driverName } from '../../common/csi/driver.ts';
import { type BindingKind, bindingKey, claimNameOf } from '../planning/bindings.ts';
import { labelPlaces } from '../planning/node-labels.ts';
import { classNameOf } from '../planning/plan-provisioning.ts';
import type { Node } from '../resources/core-kinds.ts';
import { claimUidLabel, ownerAnnotation, ownerKindLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../resources/storage-kinds.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { Queues } from './queues.ts';
import { volumeNameOf } from './volume-controller.ts';

/** Turns changes of what is around PersistentVolumes and claims into keys to reconcile. */
export function routeClaims(caches: ClusterCaches, queues: Queues): void {
  caches.volumes.onChange((before, after) => {
    routeOwner(queues, 'PrimaryVolume', before, after);
    routeVolume(caches, queues, before, after);
  });
  caches.mirrors.onChange((before, after) => {
    routeOwner(queues, 'StandbyMirror', before, after);
    addPlaces(queues, before?.status?.node, after?.status?.node);
  });
  caches.snapshots.onChange((before, after) => routeOwner(queues, 'Snapshot', before, after));
  caches.nodes.onChange((before, after) => routeNode(caches, queues, before, after));
  caches.persistentVolumes.onChange((before, after) => routePersistentVolume(caches, queues, after ?? before));
  caches.claims.onChange((before, after) => routeClaim(caches, queues, after ?? before));
  caches.storageClasses.onChange((_, after) => routeClass(caches, queues, after));
}

function routeOwner(queues: Queues, kind: BindingKind, before: KubeObject | undefined, after: KubeObject | undefined) {
  const object = after ?? before;
  if (object !== undefined) queues.bindings.add(bindingKey(kind, object));
}

function routeVolume(
  caches: ClusterCaches,
  queues: Queues,
  before: PrimaryVolume | undefined,
  after: PrimaryVolume | undefined,
): void {
  addPlaces(queues, before?.status?.node, after?.status?.node);
  const volume = after ?? before;
  if (volume === undefined) return;
  const { namespace = '', name, labels } = volume.metadata;
  const { claimName } = volume.spec;
  if (labels?.[claimUidLabel] !== undefined && claimName !== undefined) {
    queues.provisioning.add(keyText({ namespace, name: claimName }));
  }
  if (before?.status?.sizeBytes === after?.status?.sizeBytes) return;
  for (const mirror of caches.mirrors.list()) {
    if (mirror.metadata.namespace === namespace && volumeNameOf(mirror) === name) {
      queues.bindings.add(bindingKey('StandbyMirror', mirror));
    }
  }
}

/** Nodes that something left or came to. */
function addPlaces(queues: Queues, before: string | undefined, after: string | undefined): void {
  if (before === after) return;
  for (const node of [before, after]) if (node !== undefined) queues.nodeLabels.add(node);
}

/** A label that a node has lost may be waited for elsewhere. */
function routeNode(caches: ClusterCaches, queues: Queues, before: Node | undefined, after: Node | undefined): void {
  const { name } = (after ?? before)?.metadata ?? {};
  if (name === undefined || isDeepStrictEqual(before?.metadata.labels, after?.metadata.labels)) return;
  queues.nodeLabels.add(name);
  const places = labelPlaces(caches.volumes.list(), caches.mirrors.list());
  for (const label of Object.keys(before?.metadata.labels ?? {})) {
    const place = places.get(label)?.node;
    if (place !== undefined && place !== name) queues.nodeLabels.add(place);
  }
}

function routePersistentVolume(caches: ClusterCaches, queues: Queues, volume: PersistentVolume | undefined): void {
  const kind = volume?.metadata.labels?.[ownerKindLabel];
  const owner = volume?.metadata.annotations?.[ownerAnnotation];
  if (owner === undefined || kind === undefined) return;
  queues.bindings.add(`${kind}/${owner}`);
  addOwner(caches, queues, kind, owner);
  const { claimRef } = volume?.spec ?? {};
  if (claimRef !== undefined) queues.provisioning.add(keyText(keyOf({ metadata: claimRef })));
}

/** What says in its status how its claim stands. */
function addOwner(caches: ClusterCaches, queues: Queues, kind: string, owner: string): void {
  if (kind === 'PrimaryVolume') queues.volumes.add(owner);
  if (kind === 'Snapshot') queues.snapshots.add(owner);
  if (kind !== 'StandbyMirror') return;
  for (const mirror of caches.mirrors.list()) {
    const name = volumeNameOf(mirror);
    const { namespace } = mirror.metadata;
    if (keyText(keyOf(mirror)) !== owner || name === undefined || namespace === undefined) continue;
    queues.volumes.add(keyText({ namespace, name }));
  }
}

function routeClaim(caches: ClusterCaches, queues: Queues, claim: PersistentVolumeClaim | undefined): void {
  if (claim === undefined) return;
  queues.provisioning.add(keyText(keyOf(claim)));
  const { name, namespace } = claim.metadata;
  const route = (kind: BindingKind, object: Parameters<typeof claimNameOf>[1]) => {
    if (object.metadata.namespace !== namespace || claimNameOf(kind, object) !== name) return;
    queues.bindings.add(bindingKey(kind, object));
    addOwner(caches, queues, kind, keyText(keyOf(object)));
  };
  for (const volume of caches.volumes.list()) route('PrimaryVolume', volume);
  for (const mirror of caches.mirrors.list()) route('StandbyMirror', mirror);
  for (const snapshot of caches.snapshots.list()) route('Snapshot', snapshot);
}

/** Claims that wait for their class, or were refused because of it. */
function routeClass(caches: ClusterCaches, queues: Queues, storageClass: StorageClass | undefined): void {
  if (storageClass?.provisioner !== driverName) return;
  for (const claim of caches.claims.list()) {
    if (classNameOf(claim) === storageClass.metadata.name) queues.provisioning.add(keyText(keyOf(claim)));
  }
}
