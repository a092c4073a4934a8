import { isDeepStrictEqual } from 'node:util';
import { findCondition } from '../resources/conditions.ts';
import type { Node } from '../resources/core-kinds.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { NodePool } from '../resources/node-pool.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { routeClaims } from './claim-routes.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import { routeGroups } from './group-routes.ts';
import type { Queues } from './queues.ts';
import { routeRestores } from './restore-routes.ts';
import { routeSchedules } from './schedule-routes.ts';
import { volumeNameOf } from './volume-controller.ts';

/**
 * Turns changes of objects into keys to reconcile. A change of nothing but a status, which is our own writing, makes work
 * only for others that depend on it; what agents do is found out by asking them from time to time.
 */
export function routeChanges(caches: ClusterCaches, queues: Queues): void {
  caches.pools.onChange((before, after) => routePool(caches, queues, before, after));
  caches.nodes.onChange((before, after) => {
    if (!isDeepStrictEqual(before?.metadata.labels, after?.metadata.labels)) addUnplaced(caches, queues);
    if (!isDeepStrictEqual(usability(before), usability(after)))
      addVolumesOn(caches, queues, (after ?? before)?.metadata.name);
  });
  caches.volumes.onChange((before, after) => routeVolume(caches, queues, before, after));
  caches.mirrors.onChange((before, after) => routeMirror(caches, queues, before, after));
  caches.snapshots.onChange((before, after) => routeSnapshot(caches, queues, before, after));
  routeClaims(caches, queues);
  routeGroups(caches, queues);
  routeSchedules(caches, queues);
  routeRestores(caches, queues);
}

/** What the fate of copies depends on: whether its Node is ready, and whether it is being drained. */
function usability(node: Node | undefined) {
  const ready = node?.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  return { ready, unschedulable: node?.spec?.unschedulable === true };
}

function addVolumesOn(caches: ClusterCaches, queues: Queues, node: string | undefined): void {
  for (const volume of caches.volumes.list()) {
    const { copies = [], staleCopies = [] } = volume.status ?? {};
    if ([...copies, ...staleCopies].some((copy) => copy.node === node)) add(queues.volumes, volume);
  }
}

function routePool(
  caches: ClusterCaches,
  queues: Queues,
  before: NodePool | undefined,
  after: NodePool | undefined,
): void {
  const readiness = (pool: NodePool | undefined) => findCondition(pool?.status?.conditions, 'Ready')?.status;
  if (isAskedAnew(before, after)) for (const pool of caches.pools.list()) queues.pools.add(pool.metadata.name);
  if (isAskedAnew(before, after) || readiness(before) !== readiness(after)) addUnplaced(caches, queues);
}

/** What waits for a place to be found. */
function addUnplaced(caches: ClusterCaches, queues: Queues): void {
  for (const volume of caches.volumes.list())
    if (volume.status?.node === undefined) queues.volumes.add(keyText(keyOf(volume)));
  for (const mirror of caches.mirrors.list()) if (mirror.status?.node === undefined) addVolumeOf(queues, mirror);
}

function routeVolume(
  caches: ClusterCaches,
  queues: Queues,
  before: PrimaryVolume | undefined,
  after: PrimaryVolume | undefined,
): void {
  const volume = after ?? before;
  if (volume === undefined) return;
  if (isAskedAnew(before, after)) queues.volumes.add(keyText(keyOf(volume)));
  if (before?.status?.node === after?.status?.node && before?.status?.epoch === after?.status?.epoch) return;
  for (const snapshot of snapshotsIn(caches, volume))
    if (isTakenOf(caches, snapshot, volume)) add(queues.snapshots, snapshot);
}

function routeMirror(
  caches: ClusterCaches,
  queues: Queues,
  before: StandbyMirror | undefined,
  after: StandbyMirror | undefined,
): void {
  const mirror = after ?? before;
  if (mirror === undefined) return;
  if (isAskedAnew(before, after)) addVolumeOf(queues, mirror);
  const inSync = (object: StandbyMirror | undefined) => findCondition(object?.status?.conditions, 'InSync')?.status;
  if (before?.status?.node === after?.status?.node && inSync(before) === inSync(after)) return;
  for (const snapshot of snapshotsIn(caches, mirror)) {
    if (snapshot.spec?.source?.mirror === mirror.metadata.name) add(queues.snapshots, snapshot);
  }
}

/** A volume or mirror that is being deleted may have waited for a snapshot to go. */
function routeSnapshot(
  caches: ClusterCaches,
  queues: Queues,
  before: Snapshot | undefined,
  after: Snapshot | undefined,
): void {
  if (isAskedAnew(before, after)) add(queues.snapshots, after ?? before);
  if (after !== undefined || before === undefined) return;
  const volumes = caches.volumes.list().filter(({ metadata }) => metadata.namespace === before.metadata.namespace);
  for (const volume of volumes) if (volume.status?.volume === before.status?.volume) add(queues.volumes, volume);
  const mirrors = caches.mirrors.list().filter(({ metadata }) => metadata.namespace === before.metadata.namespace);
  for (const mirror of mirrors) if (mirror.status?.volume === before.status?.volume) addVolumeOf(queues, mirror);
}

/** Whether anything but the status is different: the spec, labels, annotations, finalizers, that it is to be deleted. */
function isAskedAnew(before: KubeObject | undefined, after: KubeObject | undefined): boolean {
  if (before === undefined || after === undefined) return true;
  const asked = ({ metadata }: KubeObject) => {
    const { uid, generation, annotations, labels, finalizers, deletionTimestamp } = metadata;
    return { uid, generation, annotations, labels, finalizers, deletionTimestamp };
  };
  return !isDeepStrictEqual(asked(before), asked(after));
}

function addVolumeOf(queues: Queues, mirror: StandbyMirror): void {
  const name = volumeNameOf(mirror);
  const { namespace } = mirror.metadata;
  if (name !== undefined && namespace !== undefined) queues.volumes.add(keyText({ namespace, name }));
}

function snapshotsIn(caches: ClusterCaches, object: KubeObject): Snapshot[] {
  return caches.snapshots.list().filter(({ metadata }) => metadata.namespace === object.metadata.namespace);
}

function isTakenOf(caches: ClusterCaches, snapshot: Snapshot, volume: PrimaryVolume): boolean {
  const { mirror: name, volume: direct } = snapshot.spec?.source ?? {};
  if (direct !== undefined) return direct === volume.metadata.name;
  const { namespace } = volume.metadata;
  const mirror = name === undefined || namespace === undefined ? undefined : caches.mirrors.get({ namespace, name });
  return mirror !== undefined && volumeNameOf(mirror) === volume.metadata.name;
}

function add(queue: { add(key: string): void }, object: KubeObject | undefined): void {
  if (object !== undefined) queue.add(keyText(keyOf(object)));
}
