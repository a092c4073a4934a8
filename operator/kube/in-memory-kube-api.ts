import { randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '../../common/clock.ts';
import { findResource } from '../resources/all-kinds.ts';
import { kubeTime } from '../resources/conditions.ts';
import { namespaces, pods } from '../resources/core-kinds.ts';
import { type KubeObject, keyOf, type NewObject, type ObjectKey } from '../resources/kube-object.ts';
import { apiVersionOf, type Resource } from '../resources/resource.ts';
import { type Admission, admit } from './in-memory-admission.ts';
import { InMemoryStore } from './in-memory-store.ts';
import type {
  DeleteOptions,
  KubeApi,
  ListScope,
  MergePatch,
  ObjectList,
  WatchEvent,
  WatchRequest,
} from './kube-api.ts';
import { kubeError } from './kube-error.ts';
import { equalJson, mergePatch } from './merge-patch.ts';
import type { ContainerRef, PodExec, RunningCommand } from './pod-exec.ts';

export interface InMemoryOptions {
  readonly clock?: Clock;
  readonly newUid?: () => string;
  readonly admission?: Admission;
  /** Changes that a watch can continue from. */
  readonly historyLimit?: number;
  /** Namespaces there are from the beginning. */
  readonly namespaces?: readonly string[];
}

/** One call to the API, for tests that make it fail. */
export interface ApiCall {
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'updateStatus' | 'patch' | 'delete' | 'exec';
  readonly kind: string;
  readonly name?: string;
}

/**
 * The Kubernetes API without a cluster, for the demo and for tests: what applications can tell from a real one is the
 * same. Optimistic concurrency, generations, the status subresource, finalizers, owner references, deletion of a
 * namespace with what is in it, defaults and validation of our kinds, watches with history.
 *
 * It has no garbage collector of its own that runs later: what a deletion entails happens within it.
 */
export class InMemoryKubeApi implements KubeApi {
  /** Called before every operation; what it throws is what the caller gets. */
  intercept: (call: ApiCall) => void = () => {};
  /** What runs in containers; without it there are none. */
  containers: PodExec | undefined;
  readonly #store: InMemoryStore;
  readonly #clock: Clock;
  readonly #newUid: () => string;
  readonly #admission: Admission;

  constructor(options: InMemoryOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#newUid = options.newUid ?? randomUUID;
    this.#admission = options.admission ?? 'with-cel';
    this.#store = new InMemoryStore(options.historyLimit ?? 1000);
    for (const name of options.namespaces ?? ['default']) this.#insert(namespaces, namespaceObject(name));
  }

  async get<T extends KubeObject>(resource: Resource<T>, key: ObjectKey): Promise<T | undefined> {
    this.intercept({ verb: 'get', kind: resource.kind, name: key.name });
    return this.#store.get(resource, key) as T | undefined;
  }

  async list<T extends KubeObject>(resource: Resource<T>, scope: ListScope = {}): Promise<ObjectList<T>> {
    this.intercept({ verb: 'list', kind: resource.kind });
    return { items: this.#store.list(resource, scope) as T[], resourceVersion: this.#store.resourceVersion };
  }

  async watch<T extends KubeObject>(
    resource: Resource<T>,
    request: WatchRequest,
    onEvent: (event: WatchEvent<T>) => void,
  ): Promise<void> {
    this.intercept({ verb: 'watch', kind: resource.kind });
    const { resourceVersion, signal } = request;
    await this.#store.watch(resource, request, resourceVersion, signal, (event) => onEvent(event as WatchEvent<T>));
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: NewObject<T>): Promise<T> {
    this.intercept({ verb: 'create', kind: resource.kind, name: object.metadata.name });
    this.#checkNamespace(resource, object);
    const key = keyOf(object);
    if (this.#store.get(resource, key) !== undefined) {
      throw kubeError(409, 'AlreadyExists', `${resource.plural} "${key.name}" already exists`);
    }
    const admitted = admit(resource, this.#newObject(resource, object), undefined, this.#admission);
    return this.#insert(resource, admitted) as T;
  }

  async update<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    this.intercept({ verb: 'update', kind: resource.kind, name: object.metadata.name });
    return this.#replace(resource, this.#current(resource, keyOf(object)), object) as T;
  }

  async updateStatus<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    this.intercept({ verb: 'updateStatus', kind: resource.kind, name: object.metadata.name });
    return this.#replaceStatus(resource, this.#current(resource, keyOf(object)), object) as T;
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    patch: MergePatch,
    options: { readonly subresource?: 'status' } = {},
  ): Promise<T> {
    this.intercept({ verb: 'patch', kind: resource.kind, name: key.name });
    const current = this.#current(resource, key);
    const patched = mergePatch(current, patch) as KubeObject;
    return options.subresource === 'status'
      ? (this.#replaceStatus(resource, current, patched) as T)
      : (this.#replace(resource, current, patched) as T);
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    preconditions: DeleteOptions = {},
  ): Promise<void> {
    this.intercept({ verb: 'delete', kind: resource.kind, name: key.name });
    const current = this.#store.get(resource, key);
    if (current === undefined) return;
    const { uid, resourceVersion } = current.metadata;
    if ((preconditions.uid ?? uid) !== uid || (preconditions.resourceVersion ?? resourceVersion) !== resourceVersion) {
      throw kubeError(409, 'Conflict', `${resource.plural} "${key.name}" is another object than the preconditions say`);
    }
    this.#markDeleted(resource, current);
  }

  async exec(container: ContainerRef, command: readonly string[]): Promise<RunningCommand> {
    const { namespace, pod } = container;
    this.intercept({ verb: 'exec', kind: 'Pod', name: pod });
    this.#current(pods, { namespace, name: pod });
    if (this.containers !== undefined) return await this.containers.exec(container, command);
    throw kubeError(400, 'BadRequest', `pod ${namespace}/${pod} has no container that runs`);
  }

  /** Ends every watch, as a server does from time to time. */
  endWatches(): void {
    this.#store.endWatches();
  }

  /** Forgets all history: a watch that continues from the past is answered with 410 Gone. */
  forgetHistory(): void {
    this.#store.forgetHistory();
  }

  #newObject<T extends KubeObject>(resource: Resource<T>, object: NewObject<T>): KubeObject {
    const { status: _, ...withoutStatus } = object as NewObject<T> & { status?: unknown };
    const content = resource.statusSubresource ? withoutStatus : object;
    return {
      ...content,
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      metadata: {
        ...object.metadata,
        uid: this.#newUid(),
        resourceVersion: '',
        generation: 1,
        creationTimestamp: kubeTime(this.#clock.wallTimeMs()),
      },
    } as KubeObject;
  }

  #insert(resource: Resource, object: KubeObject): KubeObject {
    return this.#store.put(resource, keyOf(object), complete(object, this.#newUid, this.#clock));
  }

  #checkNamespace(resource: Resource, object: { readonly metadata: { readonly namespace?: string } }): void {
    const { namespace } = object.metadata;
    if ((namespace !== undefined) !== resource.namespaced) {
      throw kubeError(400, 'BadRequest', `${resource.kind} is ${resource.namespaced ? '' : 'not '}namespaced`);
    }
    if (namespace === undefined) return;
    const parent = this.#store.get(namespaces, { name: namespace });
    if (parent === undefined) throw kubeError(404, 'NotFound', `namespaces "${namespace}" not found`);
    if (parent.metadata.deletionTimestamp !== undefined) {
      throw kubeError(403, 'Forbidden', `namespace ${namespace} is being terminated: nothing can be created in it`);
    }
  }

  #current(resource: Resource, key: ObjectKey): KubeObject {
    const current = this.#store.get(resource, key);
    if (current === undefined) throw kubeError(404, 'NotFound', `${resource.plural} "${key.name}" not found`);
    return current;
  }

  #replace(resource: Resource, current: KubeObject, wanted: KubeObject): KubeObject {
    checkVersion(resource, current, wanted);
    const kept = { ...wanted, ...(resource.statusSubresource ? { status: statusOf(current) } : {}) };
    if (kept.status === undefined) delete kept.status;
    const admitted = admit(
      resource,
      { ...kept, metadata: protectedMetadata(current, wanted) },
      current,
      this.#admission,
    );
    if (equalJson(admitted, current)) return current;
    const metadata = sameSpec(admitted, current) ? admitted.metadata : bumpGeneration(admitted.metadata);
    return this.#storeOrFinish(resource, { ...admitted, metadata });
  }

  #replaceStatus(resource: Resource, current: KubeObject, wanted: KubeObject): KubeObject {
    if (!resource.statusSubresource) throw kubeError(404, 'NotFound', `${resource.kind} has no status subresource`);
    checkVersion(resource, current, wanted);
    const updated = { ...current, status: statusOf(wanted) } as KubeObject;
    const admitted = admit(resource, updated, current, 'without-cel');
    return equalJson(admitted, current) ? current : this.#store.put(resource, keyOf(current), admitted);
  }

  #markDeleted(resource: Resource, object: KubeObject): void {
    if (object.metadata.deletionTimestamp !== undefined) {
      this.#storeOrFinish(resource, object);
      return;
    }
    const metadata = { ...bumpGeneration(object.metadata), deletionTimestamp: kubeTime(this.#clock.wallTimeMs()) };
    this.#storeOrFinish(resource, { ...object, metadata });
  }

  /** Stores the object, or removes it for good if nothing holds it any more. */
  #storeOrFinish(resource: Resource, object: KubeObject): KubeObject {
    if (object.metadata.deletionTimestamp === undefined) return this.#store.put(resource, keyOf(object), object);
    if (resource.kind === namespaces.kind) this.#deleteContents(object.metadata.name);
    if (this.#isHeld(resource, object)) {
      const current = this.#store.get(resource, keyOf(object));
      return equalJson(current, object) ? object : this.#store.put(resource, keyOf(object), object);
    }
    this.#store.remove(resource, keyOf(object));
    this.#afterRemoval(object);
    return object;
  }

  #isHeld(resource: Resource, object: KubeObject): boolean {
    if ((object.metadata.finalizers ?? []).length > 0) return true;
    return resource.kind === namespaces.kind && this.#contentsOf(object.metadata.name).length > 0;
  }

  #contentsOf(namespace: string): KubeObject[] {
    return [...this.#store.all()]
      .map(({ object }) => object)
      .filter(({ metadata }) => metadata.namespace === namespace);
  }

  #deleteContents(namespace: string): void {
    for (const object of this.#contentsOf(namespace)) this.#deleteIfAlive(object);
  }

  /** Its dependents lose their owner, and a namespace that waited for its last object goes too. */
  #afterRemoval(removed: KubeObject): void {
    for (const { object } of [...this.#store.all()]) {
      const owners = object.metadata.ownerReferences ?? [];
      if (owners.some(({ uid }) => uid === removed.metadata.uid) && !owners.some(({ uid }) => this.#exists(uid))) {
        this.#deleteIfAlive(object);
      }
    }
    const { namespace } = removed.metadata;
    const parent = namespace === undefined ? undefined : this.#store.get(namespaces, { name: namespace });
    if (parent?.metadata.deletionTimestamp !== undefined) this.#storeOrFinish(namespaces, parent);
  }

  #deleteIfAlive(object: KubeObject): void {
    const resource = findResource(object.apiVersion, object.kind);
    const now = resource && this.#store.get(resource, keyOf(object));
    if (resource && now && now.metadata.deletionTimestamp === undefined) this.#markDeleted(resource, now);
  }

  #exists(uid: string): boolean {
    for (const { object } of this.#store.all()) if (object.metadata.uid === uid) return true;
    return false;
  }
}

function namespaceObject(name: string): KubeObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid: '', resourceVersion: '' } };
}

function complete(object: KubeObject, newUid: () => string, clock: Clock): KubeObject {
  if (object.metadata.uid !== '') return object;
  return {
    ...object,
    metadata: { ...object.metadata, uid: newUid(), creationTimestamp: kubeTime(clock.wallTimeMs()) },
  };
}

function checkVersion(resource: Resource, current: KubeObject, wanted: KubeObject): void {
  const { uid, resourceVersion } = wanted.metadata;
  if ((uid || current.metadata.uid) !== current.metadata.uid) {
    throw kubeError(409, 'Conflict', `${resource.plural} "${wanted.metadata.name}" is another object by now`);
  }
  if ((resourceVersion || current.metadata.resourceVersion) !== current.metadata.resourceVersion) {
    throw kubeError(409, 'Conflict', `${resource.plural} "${wanted.metadata.name}" has been modified; read it again`);
  }
}

/** What a client cannot change stays as it is; a finalizer cannot be added to what is being deleted. */
function protectedMetadata(current: KubeObject, wanted: KubeObject): KubeObject['metadata'] {
  const { uid, resourceVersion, generation, creationTimestamp, deletionTimestamp } = current.metadata;
  const before = current.metadata.finalizers ?? [];
  const added = (wanted.metadata.finalizers ?? []).filter((finalizer) => !before.includes(finalizer));
  if (deletionTimestamp !== undefined && added.length > 0) {
    throw kubeError(
      422,
      'Invalid',
      `no finalizer can be added to an object that is being deleted: ${added.join(', ')}`,
    );
  }
  const { deletionTimestamp: _, ...metadata } = wanted.metadata;
  return {
    ...metadata,
    uid,
    resourceVersion,
    ...(generation === undefined ? {} : { generation }),
    ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
  };
}

function bumpGeneration(metadata: KubeObject['metadata']): KubeObject['metadata'] {
  return metadata.generation === undefined ? metadata : { ...metadata, generation: metadata.generation + 1 };
}

function sameSpec(a: object, b: object): boolean {
  return equalJson(Reflect.get(a, 'spec'), Reflect.get(b, 'spec'));
}

function statusOf(object: object): unknown {
  return Reflect.get(object, 'status');
}
