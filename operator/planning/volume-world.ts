import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { Validation } from '../../common/validation.ts';
import type { ObjectKey } from '../resources/kube-object.ts';
import { type PrimaryVolume, type PrimaryVolumeSpec, primaryVolumes } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { SnapshotRestore } from '../resources/snapshot-restore.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { validateSpec } from '../resources/validate-spec.ts';
import { type Observation, type Outcomes, observationKey } from './actions.ts';
import type { BindingFact } from './binding-fact.ts';
import type { Cluster } from './placement.ts';

/** Everything that the plan for a volume and its mirrors depends on. */
export interface VolumeWorld {
  /** RFC 3339. */
  readonly now: string;
  /** The namespace and name of the PrimaryVolume, whether it exists or not. */
  readonly key: ObjectKey;
  readonly volume: PrimaryVolume | undefined;
  /** The StandbyMirrors that name it, in the order of their names. */
  readonly mirrors: readonly StandbyMirror[];
  /** The Snapshots of the namespace. */
  readonly snapshots: readonly Snapshot[];
  /** The SnapshotRestore of its spec, and where the agent that keeps its snapshot takes links. */
  readonly source?: VolumeSource | undefined;
  readonly cluster: Cluster;
  /** By observationKey; see nodesToObserve. */
  readonly observations: ReadonlyMap<string, Observation>;
  readonly outcomes: Outcomes;
  /** How the claims of the volume and its mirrors stand, by the uid of the object. */
  readonly claims?: ReadonlyMap<string, BindingFact>;
}

export interface VolumeSource {
  readonly restore: SnapshotRestore | undefined;
  readonly address: string | undefined;
}

/** The name of a volume at the agents: another object of the same name is another volume. */
export function agentVolumeName(volume: PrimaryVolume): string {
  return `pv-${volume.metadata.uid}`;
}

/** The copies that have to be looked at before planning: node and name of the volume there. */
export function copiesToObserve(
  volume: PrimaryVolume | undefined,
  mirrors: readonly StandbyMirror[],
): { readonly node: string; readonly volume: string }[] {
  const wanted = new Map<string, { node: string; volume: string }>();
  const add = (node: string | undefined, name: string | undefined) => {
    if (node !== undefined && name !== undefined) wanted.set(observationKey(node, name), { node, volume: name });
  };
  const name = volume && agentVolumeName(volume);
  add(volume?.status?.node, name);
  for (const copy of volume?.status?.copies ?? []) add(copy.node, name);
  for (const { node } of volume?.status?.staleCopies ?? []) add(node, name);
  for (const mirror of mirrors) add(mirror.status?.node, mirror.status?.volume);
  return [...wanted.values()];
}

export function observe(world: VolumeWorld, node: string, volume: string): Observation {
  const seen = world.observations.get(observationKey(node, volume));
  return seen ?? { kind: 'unreachable', message: `node ${node} has not been asked yet` };
}

export function claimOf(world: VolumeWorld, object: PrimaryVolume | StandbyMirror): BindingFact | undefined {
  return world.claims?.get(object.metadata.uid);
}

export function viewOf(observation: Observation): VolumeView | undefined {
  return observation.kind === 'present' ? observation.view : undefined;
}

export function validVolumeSpec(volume: PrimaryVolume): Validation<PrimaryVolumeSpec> {
  return validateSpec(primaryVolumes, volume.spec, volume.status?.accepted);
}
