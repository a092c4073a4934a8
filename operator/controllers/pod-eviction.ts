import { errorMessage } from '../../common/errors.ts';
import { type EvictedPod, type Eviction, podsToEvict } from '../planning/plan-eviction.ts';
import { pods } from '../resources/core-kinds.ts';
import { keyOf } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { ControllerContext } from './controller-context.ts';

/**
 * Deletes the pods that hang on the node of a lost primary. What cannot be deleted is tried again at the next look; it holds
 * up nothing else.
 */
export async function evictPods(context: ControllerContext, volume: PrimaryVolume, eviction: Eviction): Promise<void> {
  const { api, caches, clock, log } = context;
  const { namespace, claim } = eviction;
  try {
    const { items } = await api.list(pods, { namespace });
    for (const each of podsToEvict(eviction, items, caches.nodes.list(), clock.wallTimeMs()))
      await evict(context, volume, each);
  } catch (error) {
    log.warn(
      { namespace, claim, error: errorMessage(error) },
      'could not delete the pods on the node of a lost primary',
    );
  }
}

async function evict({ api, events, log }: ControllerContext, volume: PrimaryVolume, { pod, force }: EvictedPod) {
  const { name, namespace, uid } = pod.metadata;
  await api.delete(pods, keyOf(pod), { uid, ...(force ? { gracePeriodSeconds: 0 } : {}) });
  const node = pod.spec?.nodeName;
  log.info({ namespace, pod: name, node, force }, 'deleted a pod on the node of a lost primary');
  events.record(volume, {
    type: 'Normal',
    reason: force ? 'PodForceDeleted' : 'PodDeleted',
    message: `pod ${name} was deleted: the primary is not on its node ${node} any more`,
  });
}
