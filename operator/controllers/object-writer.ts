import type { KubeApi } from '../kube/kube-api.ts';
import { isNotFound } from '../kube/kube-error.ts';
import { diffPatch } from '../kube/merge-patch.ts';
import type { ObjectPlan } from '../planning/object-plan.ts';
import type { Condition } from '../resources/conditions.ts';
import { finalizer } from '../resources/group.ts';
import { type CustomObject, keyOf } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import { conditionEvents } from './condition-events.ts';
import type { EventRecorder } from './event-recorder.ts';
import type { ResourceCache } from './resource-cache.ts';

interface Conditioned {
  readonly conditions?: readonly Condition[] | undefined;
}

/**
 * Writes what was planned for the objects of one kind: only what differs, and only if the object still is the one that was
 * planned for (the API answers Conflict otherwise, and everything is planned again).
 */
export class ObjectWriter<Spec, Status extends Conditioned> {
  readonly #api: KubeApi;
  readonly #resource: Resource<CustomObject<Spec, Status>>;
  readonly #cache: ResourceCache<CustomObject<Spec, Status>>;
  readonly #events: EventRecorder;

  constructor(
    api: KubeApi,
    resource: Resource<CustomObject<Spec, Status>>,
    cache: ResourceCache<CustomObject<Spec, Status>>,
    events: EventRecorder,
  ) {
    this.#api = api;
    this.#resource = resource;
    this.#cache = cache;
    this.#events = events;
  }

  /** Puts the finalizer on the object if that is planned. @returns whether anything was written. */
  async hold(object: CustomObject<Spec, Status>, plan: ObjectPlan<Status>): Promise<boolean> {
    if (plan.finalizer !== 'hold') return false;
    await this.#patchFinalizers(object, [...(object.metadata.finalizers ?? []), finalizer]);
    return true;
  }

  /** Writes the status, then takes the finalizer off if that is planned. @returns whether anything was written. */
  async write(object: CustomObject<Spec, Status>, plan: ObjectPlan<Status>): Promise<boolean> {
    const before = object.status;
    const status = diffPatch(before ?? {}, plan.status);
    let current = object;
    if (status !== undefined) {
      current = await this.#patchStatus(object, status);
      for (const event of conditionEvents(before?.conditions, plan.status.conditions))
        this.#events.record(object, event);
    }
    const obeyed = (plan.obeyed ?? []).filter((name) => object.metadata.annotations?.[name] !== undefined);
    if (obeyed.length > 0) {
      current = await this.#patchMetadata(current, {
        annotations: Object.fromEntries(obeyed.map((name) => [name, null])),
      });
    }
    if (plan.finalizer !== 'release') return status !== undefined || obeyed.length > 0;
    const left = (current.metadata.finalizers ?? []).filter((name) => name !== finalizer);
    await this.#patchFinalizers(current, left);
    return true;
  }

  async #patchStatus(object: CustomObject<Spec, Status>, status: object): Promise<CustomObject<Spec, Status>> {
    const patch = { metadata: { resourceVersion: object.metadata.resourceVersion }, status };
    const written = await this.#api.patch(this.#resource, keyOf(object), patch, { subresource: 'status' });
    this.#cache.put(written);
    return written;
  }

  async #patchFinalizers(object: CustomObject<Spec, Status>, finalizers: readonly string[]): Promise<void> {
    try {
      await this.#patchMetadata(object, { finalizers });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #patchMetadata(object: CustomObject<Spec, Status>, change: object): Promise<CustomObject<Spec, Status>> {
    const metadata = { resourceVersion: object.metadata.resourceVersion, ...change };
    const written = await this.#api.patch(this.#resource, keyOf(object), { metadata });
    this.#cache.put(written);
    return written;
  }
}
