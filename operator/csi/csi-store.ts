import { type Clock, delay } from '../../common/clock.ts';
import { CsiError } from '../../common/csi/csi-error.ts';
import { errorCode } from '../../common/errors.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { Condition } from '../resources/conditions.ts';
import { type CustomObject, keyOf, type NewObject } from '../resources/kube-object.ts';
import { apiVersionOf, type CustomResource } from '../resources/resource.ts';
import { csiNameAnnotation, csiNameDigest, csiNameLabel, objectNameOf } from './csi-names.ts';

/** A call is answered after this long at the latest; side-cars give it ten seconds or more, and come again. */
const patienceMs = 8_000;
const pollMs = 100;

interface Conditioned {
  readonly conditions?: readonly Condition[] | undefined;
}

/** The objects of one kind, as the calls of the controller service look for them, make them and wait for them. */
export class CsiStore<Spec, Status extends Conditioned> {
  readonly #api: KubeApi;
  readonly #resource: CustomResource<Spec, Status>;
  readonly #clock: Clock;
  /** Only the objects of this namespace. */
  readonly #namespace: string | undefined;

  constructor(options: {
    api: KubeApi;
    resource: CustomResource<Spec, Status>;
    clock: Clock;
    namespace: string | undefined;
  }) {
    this.#api = options.api;
    this.#resource = options.resource;
    this.#clock = options.clock;
    this.#namespace = options.namespace;
  }

  async list(labelSelector?: string): Promise<readonly CustomObject<Spec, Status>[]> {
    const scope = {
      ...(this.#namespace === undefined ? {} : { namespace: this.#namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
    };
    return (await this.#api.list<CustomObject<Spec, Status>>(this.#resource, scope)).items;
  }

  async byUid(uid: string): Promise<CustomObject<Spec, Status> | undefined> {
    return (await this.list()).find(({ metadata }) => metadata.uid === uid);
  }

  /** What was made for a name over CSI, in whatever namespace. */
  async byCsiName(name: string): Promise<CustomObject<Spec, Status> | undefined> {
    const found = await this.list(`${csiNameLabel}=${csiNameDigest(name)}`);
    return found.find(({ metadata }) => metadata.annotations?.[csiNameAnnotation] === name);
  }

  /** @throws CsiError ALREADY_EXISTS when an object that was not made over CSI has its name */
  async create(csiName: string, namespace: string, spec: Spec): Promise<CustomObject<Spec, Status>> {
    const name = objectNameOf(csiName);
    const { kind } = this.#resource;
    const object: NewObject<CustomObject<Spec, Status>> = {
      apiVersion: apiVersionOf(this.#resource),
      kind,
      metadata: {
        name,
        namespace,
        labels: { [csiNameLabel]: csiNameDigest(csiName) },
        annotations: { [csiNameAnnotation]: csiName },
      },
      spec,
    };
    try {
      return await this.#api.create<CustomObject<Spec, Status>>(this.#resource, object);
    } catch (cause) {
      if (errorCode(cause) !== 'AlreadyExists') throw cause;
      const there = await this.#api.get<CustomObject<Spec, Status>>(this.#resource, { namespace, name });
      if (there?.metadata.annotations?.[csiNameAnnotation] === csiName) return there;
      throw new CsiError('ALREADY_EXISTS', `${kind} ${namespace}/${name} is there already, and was not made over CSI`);
    }
  }

  async patchSpec(object: CustomObject<Spec, Status>, spec: Partial<Spec>): Promise<void> {
    const { resourceVersion } = object.metadata;
    await this.#api.patch<CustomObject<Spec, Status>>(this.#resource, keyOf(object), {
      metadata: { resourceVersion },
      spec,
    });
  }

  async delete(object: CustomObject<Spec, Status>): Promise<void> {
    await this.#api.delete<CustomObject<Spec, Status>>(this.#resource, keyOf(object), { uid: object.metadata.uid });
  }

  /** Looks at an object until it is as wanted. @returns it as it is then, or when the time is up; undefined if it is gone */
  async waitFor(
    object: CustomObject<Spec, Status>,
    isWanted: (object: CustomObject<Spec, Status>) => boolean,
  ): Promise<CustomObject<Spec, Status> | undefined> {
    const deadlineMs = this.#clock.monotonicMs() + patienceMs;
    for (;;) {
      const found = await this.#api.get<CustomObject<Spec, Status>>(this.#resource, keyOf(object));
      const now = found?.metadata.uid === object.metadata.uid ? found : undefined;
      if (now === undefined || isWanted(now) || this.#clock.monotonicMs() >= deadlineMs) return now;
      await delay(this.#clock, pollMs);
    }
  }
}

/** Refuses what was made by hand: it is for whoever made it to change or delete. @throws CsiError FAILED_PRECONDITION */
export function checkMadeOverCsi(object: CustomObject<unknown, unknown>, what: string): void {
  if (object.metadata.annotations?.[csiNameAnnotation] !== undefined) return;
  const { namespace, name } = object.metadata;
  const message = `${object.kind} ${namespace}/${name} was not made over CSI: ${what} the object itself`;
  throw new CsiError('FAILED_PRECONDITION', message);
}
