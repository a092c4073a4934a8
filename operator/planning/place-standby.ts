import { parseQuantity } from '../../common/quantity.ts';
import type { PrimaryVolume, PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import type { StandbyMirrorSpec } from '../resources/standby-mirror.ts';
import type { MirrorFact } from './mirror-facts.ts';
import { type Placement, place } from './placement.ts';
import type { PrimaryFact } from './primary.ts';
import type { VolumeWorld } from './volume-world.ts';

/** Finds the node for the standby of a mirror; one that has a place is looked at as if it had to leave that. Pure. */
export function placeStandby(
  fact: MirrorFact,
  spec: StandbyMirrorSpec,
  volume: PrimaryVolume,
  volumeSpec: PrimaryVolumeSpec,
  primary: PrimaryFact,
  world: VolumeWorld,
): Placement {
  const { buffer, reversed, mirror } = fact;
  return place(
    {
      owner: reversed ? volume.metadata.uid : mirror.metadata.uid,
      nodeName: spec.nodeName,
      nodeSelector: spec.nodeSelector,
      pool: spec.pool,
      bytes: parseQuantity(volumeSpec.size),
      buffer: buffer && { pool: buffer.pool, bytes: parseQuantity(buffer.capacity) },
      taken: takenNodes(fact, volume, primary, world),
    },
    world.cluster,
  );
}

/** A node holds one copy of a volume at most: a second one would be lost together with the first. */
function takenNodes(
  fact: MirrorFact,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  world: VolumeWorld,
): Map<string, string> {
  const taken = new Map<string, string>();
  for (const copy of volume.status?.copies ?? []) {
    if (copy.name !== fact.name)
      taken.set(copy.node, `node ${copy.node} has the copy ${copy.name} of the volume already`);
  }
  for (const other of world.mirrors) {
    const node = other.status?.node;
    if (node !== undefined && other.metadata.name !== fact.name) {
      taken.set(node, `node ${node} has the standby of mirror ${other.metadata.name} already`);
    }
  }
  for (const { node } of volume.status?.staleCopies ?? [])
    taken.set(node, `node ${node} has a copy of the volume that was given up`);
  if (fact.placed !== undefined) taken.set(fact.placed.node, `node ${fact.placed.node} is the one that is lost`);
  taken.set(primary.node, `node ${primary.node} has the primary: a standby beside it would be lost together with it`);
  return taken;
}
