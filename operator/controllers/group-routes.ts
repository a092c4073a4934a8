import { isDeepStrictEqual } from 'node:util';
import { findCondition } from '../resources/conditions.ts';
import { groupUidLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { SnapshotGroup } from '../resources/snapshot-group.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { Queues } from './queues.ts';

/** Turns changes of groups and of their members into keys to reconcile. */
export function routeGroups(caches: ClusterCaches, queues: Queues): void {
  caches.groups.onChange((before, after) => {
    const group = after ?? before;
    // Its status is its own writing; of that, its members wait for the end of the hold.
    if (after !== undefined && !isDeepStrictEqual(asked(before), asked(after)))
      queues.groups.add(keyText(keyOf(after)));
    if (group === undefined || before?.status?.endedAt === after?.status?.endedAt) return;
    for (const snapshot of membersOf(caches, group)) queues.snapshots.add(keyText(keyOf(snapshot)));
  });
  caches.snapshots.onChange((before, after) => {
    const uid = (after ?? before)?.metadata.labels?.[groupUidLabel];
    if (uid === undefined || isDeepStrictEqual(progress(before), progress(after))) return;
    for (const group of caches.groups.list()) if (group.metadata.uid === uid) queues.groups.add(keyText(keyOf(group)));
  });
}

function membersOf(caches: ClusterCaches, { metadata }: SnapshotGroup): Snapshot[] {
  return caches.snapshots.list().filter((snapshot) => snapshot.metadata.labels?.[groupUidLabel] === metadata.uid);
}

function asked(object: KubeObject | undefined) {
  if (object === undefined) return undefined;
  const { uid, generation, finalizers, deletionTimestamp } = object.metadata;
  return { uid, generation, finalizers, deletionTimestamp };
}

/** What a group waits for. */
function progress(snapshot: Snapshot | undefined) {
  if (snapshot === undefined) return undefined;
  const { node, requestedFrom, takenAt, conditions } = snapshot.status ?? {};
  const { status, reason } = findCondition(conditions, 'Ready') ?? {};
  return { node, requestedFrom, takenAt, status, reason, deleting: snapshot.metadata.deletionTimestamp };
}
