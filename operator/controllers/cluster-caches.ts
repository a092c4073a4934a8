import type { AgentDirectory } from '../agent-client/agent-client.ts';
import type { ListScope } from '../kube/kube-api.ts';
import type { Cluster } from '../planning/placement.ts';
import { type Allocation, allocations } from '../planning/pools.ts';
import { type Node, nodes } from '../resources/core-kinds.ts';
import { ownerUidLabel } from '../resources/group.ts';
import type { KubeObject } from '../resources/kube-object.ts';
import { type NodePool, nodePools } from '../resources/node-pool.ts';
import { type PrimaryVolume, primaryVolumes } from '../resources/primary-volume.ts';
import type { Resource } from '../resources/resource.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import { type SnapshotGroup, snapshotGroups } from '../resources/snapshot-group.ts';
import { type SnapshotRestore, snapshotRestores } from '../resources/snapshot-restore.ts';
import { type SnapshotSchedule, snapshotSchedules } from '../resources/snapshot-schedule.ts';
import { type StandbyMirror, standbyMirrors } from '../resources/standby-mirror.ts';
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaims,
  persistentVolumes,
  type StorageClass,
  storageClasses,
} from '../resources/storage-kinds.ts';
import { type CacheOptions, ResourceCache } from './resource-cache.ts';

/** Everything of the Kubernetes API that the operator looks at. */
export class ClusterCaches {
  readonly pools: ResourceCache<NodePool>;
  readonly nodes: ResourceCache<Node>;
  readonly volumes: ResourceCache<PrimaryVolume>;
  readonly mirrors: ResourceCache<StandbyMirror>;
  readonly snapshots: ResourceCache<Snapshot>;
  readonly groups: ResourceCache<SnapshotGroup>;
  readonly schedules: ResourceCache<SnapshotSchedule>;
  readonly restores: ResourceCache<SnapshotRestore>;
  /** Those that were made of our objects. */
  readonly persistentVolumes: ResourceCache<PersistentVolume>;
  readonly claims: ResourceCache<PersistentVolumeClaim>;
  readonly storageClasses: ResourceCache<StorageClass>;

  readonly #namespace: string | undefined;

  constructor(options: Omit<CacheOptions<KubeObject>, 'resource'>) {
    this.#namespace = options.scope.namespace;
    const follow = <T extends KubeObject>(resource: Resource<T>, labels: Pick<ListScope, 'labelSelector'> = {}) =>
      new ResourceCache<T>({
        ...options,
        resource,
        scope: { ...(resource.namespaced ? options.scope : {}), ...labels },
        log: options.log.child({ kind: resource.kind }),
      });
    this.pools = follow(nodePools);
    this.nodes = follow(nodes);
    this.volumes = follow(primaryVolumes);
    this.mirrors = follow(standbyMirrors);
    this.snapshots = follow(snapshots);
    this.groups = follow(snapshotGroups);
    this.schedules = follow(snapshotSchedules);
    this.restores = follow(snapshotRestores);
    this.persistentVolumes = follow(persistentVolumes, { labelSelector: ownerUidLabel });
    this.claims = follow(persistentVolumeClaims);
    this.storageClasses = follow(storageClasses);
  }

  /**
   * Resolves when what the others depend on has been listed. Nodes are not waited for, their labels are all that is used of
   * them; nor groups, schedules and restores, so that in a cluster that does not have these kinds yet everything
   * else works.
   */
  async synced(): Promise<void> {
    await Promise.all(this.#needed().map((cache) => cache.synced));
  }

  get isSynced(): boolean {
    return this.#needed().every((cache) => cache.isSynced);
  }

  #needed() {
    return [
      this.pools,
      this.volumes,
      this.mirrors,
      this.snapshots,
      this.persistentVolumes,
      this.claims,
      this.storageClasses,
    ];
  }

  /** Whether the objects of a namespace are known here; what is missing in another one may well be there. */
  covers(namespace: string | undefined): boolean {
    return this.#namespace === undefined || this.#namespace === namespace;
  }

  /** Where things can be placed now. */
  cluster(agents: AgentDirectory): Cluster {
    const { volumes, mirrors } = this;
    let allocated: readonly Allocation[] | undefined;
    return {
      pools: this.pools.list(),
      nodes: this.nodes.list(),
      // It takes a look at every volume, and only what has no place yet asks for it.
      get allocations() {
        allocated ??= allocations(volumes.list(), mirrors.list());
        return allocated;
      },
      mirrorAddresses: new Map(agents.entries().map(({ node, mirrorAddress }) => [node, mirrorAddress])),
    };
  }

  async stop(): Promise<void> {
    await Promise.all(
      [...this.#needed(), this.nodes, this.groups, this.schedules, this.restores].map((cache) => cache.stop()),
    );
  }
}
