import { formatAddress } from '../../common/address.ts';
import type { AgentPod } from '../resources/platform-kinds.ts';

/** Where the agent of a node is reached. */
export interface AgentLocation {
  readonly node: string;
  readonly url: string;
  readonly mirrorAddress: string;
}

/** The annotation of a pod that says where its agent takes mirror links, "host:port", if not at the node's address. */
export const mirrorAddressAnnotation = 'understudy.dev/mirror-address';

/**
 * The agents of a DaemonSet, by node. While one is replaced there may be two pods on a node: the newest that is not going
 * away counts. Pure.
 */
export function agentsOfPods(
  pods: readonly AgentPod[],
  { apiPort, mirrorPort }: { readonly apiPort: number; readonly mirrorPort: number },
): AgentLocation[] {
  const byNode = new Map<string, AgentPod>();
  for (const pod of pods) {
    const node = pod.spec?.nodeName;
    if (node === undefined || hostOf(pod) === undefined || hasEnded(pod)) continue;
    const known = byNode.get(node);
    if (known === undefined || isBetter(pod, known)) byNode.set(node, pod);
  }
  return [...byNode].map(([node, pod]) => {
    const host = hostOf(pod) ?? '';
    return {
      node,
      url: `https://${formatAddress({ host, port: apiPort })}`,
      mirrorAddress: pod.metadata.annotations?.[mirrorAddressAnnotation] ?? formatAddress({ host, port: mirrorPort }),
    };
  });
}

function hostOf({ status }: AgentPod): string | undefined {
  return status?.hostIP ?? status?.podIP;
}

function hasEnded({ status }: AgentPod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed';
}

function isBetter(pod: AgentPod, than: AgentPod): boolean {
  const going = ({ metadata }: AgentPod) => metadata.deletionTimestamp !== undefined;
  if (going(pod) !== going(than)) return going(than);
  return (pod.metadata.creationTimestamp ?? '') > (than.metadata.creationTimestamp ?? '');
}
