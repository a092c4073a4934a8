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

/**
 * The value of a label is the namespace of its object: an operator that looks after some namespaces only leaves the labels
 * of others alone.
 */
export function nodeLabelValue(object: { readonly metadata: { readonly namespace?: string } }): string {
  return object.metadata.namespace ?? '';
}

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

export interface LabelPlace {
  readonly node: string;
  readonly value: string;
}

/** The node that each label belongs on. */
export function labelPlaces(
  volumes: readonly PrimaryVolume[],
  mirrors: readonly StandbyMirror[],
): ReadonlyMap<string, LabelPlace> {
  const places = new Map<string, LabelPlace>();
  for (const volume of volumes) {
    const node = volume.status?.node;
    if (node !== undefined) places.set(primaryLabel(volume), { node, value: nodeLabelValue(volume) });
  }
  for (const mirror of mirrors) {
    const node = mirror.status?.node;
    if (node !== undefined) places.set(standbyLabel(mirror), { node, value: nodeLabelValue(mirror) });
  }
  return places;
}

export interface NodeLabelPlan {
  readonly remove: readonly string[];
  /** With their values. */
  readonly add: Readonly<Record<string, string>>;
  /** Other nodes that have to lose a label before this one gets it. */
  readonly waitsFor: readonly string[];
}

/**
 * What is to become of the labels of one node. What no volume or mirror stands for any more goes.
 * @param covers whether a namespace is looked after.
 */
export function planNodeLabels(
  node: Node,
  nodes: readonly Node[],
  places: ReadonlyMap<string, LabelPlace>,
  covers: (namespace: string) => boolean,
): NodeLabelPlan {
  const { name } = node.metadata;
  const there = ourLabels(node);
  const remove = Object.keys(there).filter((label) => places.get(label)?.node !== name && covers(there[label] ?? ''));
  const missing = [...places].filter(([label, place]) => place.node === name && there[label] !== place.value);
  const others = nodes.filter(({ metadata }) => metadata.name !== name);
  const add: Record<string, string> = {};
  const waitsFor = new Set<string>();
  for (const [label, { value }] of missing) {
    const holders = others.filter((other) => ourLabels(other)[label] !== undefined);
    for (const { metadata } of holders) waitsFor.add(metadata.name);
    if (holders.length === 0) add[label] = value;
  }
  return { remove, add, waitsFor: [...waitsFor] };
}

function ourLabels(node: Node): Record<string, string> {
  return Object.fromEntries(
    Object.entries(node.metadata.labels ?? {}).filter(
      ([label]) => label.startsWith(primaryPrefix) || label.startsWith(standbyPrefix),
    ),
  );
}

/** The label by which a node is found whatever runs on it; the kubelet sets it, mostly to the node's name. */
export function hostnameOf(node: string, nodes: readonly Node[]): string {
  const object = nodes.find(({ metadata }) => metadata.name === node);
  return object?.metadata.labels?.['kubernetes.io/hostname'] ?? node;
}
