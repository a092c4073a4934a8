import { type Condition, findCondition } from '../resources/conditions.ts';
import type { KubeObject } from '../resources/kube-object.ts';
import type { ClusterCaches } from './cluster-caches.ts';

/** What there is in the cluster, for the metrics. */
export interface Census {
  /** How many objects of a kind are Ready, are not, or have not been looked at. */
  readonly objects: readonly { readonly kind: string; readonly ready: Condition['status']; readonly count: number }[];
  /** Which volume of the agents is which object. */
  readonly volumes: readonly {
    readonly namespace: string;
    readonly name: string;
    /** Its name at the agents. */
    readonly volume: string;
    readonly node: string;
  }[];
}

export const emptyCensus: Census = { objects: [], volumes: [] };

type Conditioned = KubeObject & { readonly status?: { readonly conditions?: readonly Condition[] | undefined } };

export function takeCensus({ pools, volumes, mirrors, snapshots, groups, schedules, restores }: ClusterCaches): Census {
  const kinds: readonly (readonly [string, readonly Conditioned[]])[] = [
    ['NodePool', pools.list()],
    ['PrimaryVolume', volumes.list()],
    ['StandbyMirror', mirrors.list()],
    ['Snapshot', snapshots.list()],
    ['SnapshotGroup', groups.list()],
    ['SnapshotSchedule', schedules.list()],
    ['SnapshotRestore', restores.list()],
  ];
  return {
    objects: kinds.flatMap(([kind, objects]) => countReady(kind, objects)),
    volumes: volumes.list().flatMap(({ metadata: { namespace = '', name }, status }) => {
      const { volume, node } = status ?? {};
      return volume === undefined || node === undefined ? [] : [{ namespace, name, volume, node }];
    }),
  };
}

/** All three for every kind, so that a sum over them is never missing. */
function countReady(kind: string, objects: readonly Conditioned[]): Census['objects'] {
  const readiness = objects.map(({ status }) => findCondition(status?.conditions, 'Ready')?.status ?? 'Unknown');
  return (['True', 'False', 'Unknown'] as const).map((ready) => ({
    kind,
    ready,
    count: readiness.filter((found) => found === ready).length,
  }));
}
