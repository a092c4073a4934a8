import type { Node, Pod } from '../resources/core-kinds.ts';
import { originCopy, type PrimaryVolume } from '../resources/primary-volume.ts';
import { claimNameOf } from './bindings.ts';
import type { MirrorFact } from './mirror-facts.ts';
import { isNotReady } from './node-readiness.ts';
import type { PrimaryFact } from './primary.ts';
import { knownCopies } from './primary.ts';
import { agentVolumeName, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** Pods that cannot use a volume any more where they are. */
export interface Eviction {
  readonly namespace: string;
  /** The claim of the volume. */
  readonly claim: string;
  /** Nodes of former primaries that have not come back as standbys. */
  readonly nodes: readonly string[];
}

export interface EvictedPod {
  readonly pod: Pod;
  /** Its node does not say any more that it has ended: the object goes without that. */
  readonly force: boolean;
}

/** Pods in these phases do not use their volumes any more. */
const endedPhases: readonly (string | undefined)[] = ['Succeeded', 'Failed'];
/** How long after the end of its grace period a pod counts as one that hangs. */
const hangsAfterMs = 30_000;

/**
 * Which pods are to be looked for. Not before the former primary has been fenced: the record has been swapped, so it can
 * acknowledge nothing any more that the new one lacks; and the new primary says that it is one, so that whoever is restarted
 * finds it. Pure.
 */
export function planEviction(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  facts: readonly MirrorFact[],
): Eviction | undefined {
  const { record, due, trouble } = primary;
  const view = viewOf(primary.observation);
  if (due !== undefined || trouble !== undefined || view?.role !== 'primary' || view.epoch !== record.epoch)
    return undefined;
  const governing = facts.filter(({ name, reversed }) => !reversed && [name, originCopy].includes(primary.copy));
  if (!governing.some(({ spec }) => spec.ok && spec.value.failover.evictPods)) return undefined;
  const former = new Set([...(record.superseded ?? []).map(({ name }) => name), ...record.divergent]);
  const away = knownCopies(world, volume)
    .filter(({ name, node }) => former.has(name) && node !== primary.node)
    .filter(({ node }) => viewOf(observe(world, node, agentVolumeName(volume)))?.role !== 'standby');
  if (away.length === 0) return undefined;
  return {
    namespace: volume.metadata.namespace ?? '',
    claim: claimNameOf('PrimaryVolume', volume),
    nodes: away.map(({ node }) => node),
  };
}

/**
 * Those of the pods that are to be deleted now. Where a node works, its kubelet is given the grace period to end them; where
 * it does not, or a pod hangs beyond that, nobody is waited for. Pure.
 */
export function podsToEvict(
  { claim, nodes }: Eviction,
  pods: readonly Pod[],
  known: readonly Node[],
  nowMs: number,
): EvictedPod[] {
  return pods.flatMap((pod) => {
    const { nodeName } = pod.spec ?? {};
    if (nodeName === undefined || !nodes.includes(nodeName) || !isUser(pod, claim)) return [];
    const node = known.find(({ metadata }) => metadata.name === nodeName);
    const { deletionTimestamp } = pod.metadata;
    // Kubernetes sets it to the end of the grace period.
    const hangs = deletionTimestamp !== undefined && nowMs - Date.parse(deletionTimestamp) > hangsAfterMs;
    const force = hangs || node === undefined || isNotReady(node);
    return deletionTimestamp === undefined || force ? [{ pod, force }] : [];
  });
}

/** Whether a pod uses a claim of its namespace, or will. */
export function isUser({ spec, status }: Pod, claim: string): boolean {
  if (endedPhases.includes(status?.phase)) return false;
  return spec?.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === claim) ?? false;
}
