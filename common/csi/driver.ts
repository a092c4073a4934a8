import { createHash } from 'node:crypto';

/** What the CSI driver is called, everywhere in Kubernetes. */
export const driverName = 'csi.understudy.dev';
/** The label of a node under which the kubelet keeps what NodeGetInfo says about its place. */
export const topologyKey = 'topology.understudy.dev/node';
/** In a volume's context: the uid of the volume, as the agents record it. */
export const uidKey = 'understudy.dev/uid';
/** Instead of a snapshot's name: the newest that is ready when a pod mounts it. */
export const latestSnapshot = 'latest';

const maxLabelValueLength = 63;

/** The value of the topology's label for a node: its name, shortened to what a label may hold but still unique. */
export function topologyValue(node: string): string {
  if (node.length <= maxLabelValueLength) return node;
  const digest = createHash('sha256').update(node).digest('hex').slice(0, 10);
  return `${node.slice(0, maxLabelValueLength - digest.length - 1)}-${digest}`;
}
