import { isDeepStrictEqual } from 'node:util';
import { beforeName } from '../planning/plan-restore.ts';
import { findCondition } from '../resources/conditions.ts';
import { type KubeObject, keyOf, keyText } from '../resources/kube-object.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { Queues } from './queues.ts';

/** Turns changes of what restores depend on into keys to reconcile; how far they are is asked from time to time. */
export function routeRestores(caches: ClusterCaches, queues: Queues): void {
  caches.restores.onChange((before, after) => {
    // Its status is its own writing.
    if (after !== undefined && !isDeepStrictEqual(asked(before), asked(after)))
      queues.restores.add(keyText(keyOf(after)));
  });
  caches.snapshots.onChange((before, after) => {
    if (readiness(before) === readiness(after)) return;
    const { namespace, name } = (after ?? before)?.metadata ?? {};
    for (const restore of caches.restores.list()) {
      const concerned = restore.spec?.snapshot === name || beforeName(restore) === name;
      if (restore.metadata.namespace === namespace && concerned) queues.restores.add(keyText(keyOf(restore)));
    }
  });
}

function asked(object: KubeObject | undefined) {
  if (object === undefined) return undefined;
  const { uid, generation, annotations, finalizers, deletionTimestamp } = object.metadata;
  return { uid, generation, annotations, finalizers, deletionTimestamp };
}

function readiness(snapshot: Snapshot | undefined): string | undefined {
  return snapshot && findCondition(snapshot.status?.conditions, 'Ready')?.status;
}
