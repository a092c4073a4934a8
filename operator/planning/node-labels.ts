import { createHash } from 'node:crypto';
import type { Node } from '../resources/core-kinds.ts';
import { group } from '../resources/group.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';

/**
 * Labels that say on which node the primary of a volume, and the standby of a mirror, is now. PersistentVolumes are bound to
 * them by node affinity, which itself can never change.
 *
 * A label is on one node at most: the kubelet checks the affinity again at each mount, and must refuse on the old node
 * before it accepts on the new one.
 */
const primaryPrefix = `primary.${group}/`;
const standbyPrefix = `standby.${group}/`;
export const nodeLabelValue = 'true';

export function primaryLabel(volume: PrimaryVolume): string {
  return primaryPrefix + hashOf(volume.metadata.uid);
}

export function standbyLabel(mirror: StandbyMirror): string {
  return standbyPrefix + hashOf(mirror.metadata.uid);
}

/** The name part of a label has 63 characters at most, whatever a uid is. */
function hashOf(uid: string): string {
  return createHash('sha256').update(uid).digest('hex').slice(0, 40);
}

/** The node that each label belongs on. */
export function labelPlaces(
  volumes: readonly PrimaryVolume[],
  mirrors: readonly StandbyMirror[],
): ReadonlyMap<string, string> {
  const places = new Map<string, string>();
  for (const volume of volumes) if (volume.status?.node) places.set(primaryLabel(volume), volume.status.node);
  for (const mirror of mirrors) if (mirror.status?.node) places.set(standbyLabel(mirror), mirror.status.node);
  return places;
}

export interface NodeLabelPlan {
  readonly remove: readonly string[];
  readonly add: readonly string[];
  /** Other nodes that have to lose a label before this one gets it. */
  readonly waitsFor: readonly string[];
}

/** What is to become of the labels of one node. What no volume or mirror stands for any more goes. */
export function planNodeLabels(node: Node, nodes: readonly Node[], places: ReadonlyMap<string, string>): NodeLabelPlan {
  const { name } = node.metadata;
  const there = ourLabels(node);
  const remove = there.filter((label) => places.get(label) !== name);
  const missing = [...places].filter(([label, place]) => place === name && !there.includes(label));
  const others = nodes.filter(({ metadata }) => metadata.name !== name);
  const blocked = new Map(
    missing.flatMap(([label]) =>
      others.filter((other) => ourLabels(other).includes(label)).map((other) => [label, other.metadata.name] as const),
    ),
  );
  return {
    remove,
    add: missing.map(([label]) => label).filter((label) => !blocked.has(label)),
    waitsFor: [...new Set(blocked.values())],
  };
}

function ourLabels(node: Node): string[] {
  return Object.keys(node.metadata.labels ?? {}).filter(
    (label) => label.startsWith(primaryPrefix) || label.startsWith(standbyPrefix),
  );
}

/** The label by which a node is found whatever runs on it; the kubelet sets it, mostly to the node's name. */
export function hostnameOf(node: string, nodes: readonly Node[]): string {
  const object = nodes.find(({ metadata }) => metadata.name === node);
  return object?.metadata.labels?.['kubernetes.io/hostname'] ?? node;
}
