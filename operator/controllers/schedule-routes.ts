import { isDeepStrictEqual } from 'node:util';
import { scheduleUidLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { SnapshotSchedule } from '../resources/snapshot-schedule.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { Queues } from './queues.ts';

/** Turns changes of what schedules depend on into keys to reconcile. */
export function routeSchedules(caches: ClusterCaches, queues: Queues): void {
  const add = (schedule: SnapshotSchedule) => queues.schedules.add(keyText(keyOf(schedule)));
  const addWhere = (object: KubeObject | undefined, concerns: (schedule: SnapshotSchedule) => boolean) => {
    for (const schedule of caches.schedules.list()) {
      if (schedule.metadata.namespace === object?.metadata.namespace && concerns(schedule)) add(schedule);
    }
  };
  caches.schedules.onChange((before, after) => {
    // Its status is its own writing.
    if (after !== undefined && !isDeepStrictEqual(asked(before), asked(after))) add(after);
  });
  caches.snapshots.onChange((before, after) => {
    const snapshot = after ?? before;
    const uid = snapshot?.metadata.labels?.[scheduleUidLabel];
    const isNewOrGone = before === undefined || after === undefined;
    // One that others made takes a place.
    const takesPlace = ({ spec }: SnapshotSchedule) =>
      isNewOrGone && isDeepStrictEqual(spec?.template?.source, snapshot?.spec?.source);
    addWhere(snapshot, (schedule) => schedule.metadata.uid === uid || takesPlace(schedule));
  });
  caches.mirrors.onChange((before, after) => {
    if (isDeepStrictEqual(asked(before), asked(after))) return;
    const mirror = after ?? before;
    addWhere(mirror, ({ spec }) => spec?.template?.source?.mirror === mirror?.metadata.name);
  });
  caches.volumes.onChange((before, after) => {
    if (isDeepStrictEqual(asked(before), asked(after))) return;
    const volume = after ?? before;
    addWhere(volume, ({ spec }) => spec?.template?.source?.volume === volume?.metadata.name);
  });
}

/** What is asked of an object: its spec, by generation, and whether it is to be deleted. */
function asked(object: KubeObject | undefined) {
  if (object === undefined) return undefined;
  const { uid, generation, deletionTimestamp } = object.metadata;
  return { uid, generation, deletionTimestamp };
}
