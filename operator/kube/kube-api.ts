import type { KubeObject, NewObject, ObjectKey } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import type { PodExec } from './pod-exec.ts';

/**
 * The part of the Kubernetes API that the operator needs. Every failure is an UnderstudyError made by kubeError, whose
 * labels carry the HTTP status and the reason of the API server.
 */
export interface KubeApi extends PodExec {
  /** Undefined if there is no such object. */
  get<T extends KubeObject>(resource: Resource<T>, key: ObjectKey): Promise<T | undefined>;
  list<T extends KubeObject>(resource: Resource<T>, scope?: ListScope): Promise<ObjectList<T>>;
  /**
   * One stream of changes after `resourceVersion`, until the server ends it (the promise resolves), it breaks, or the
   * signal aborts (it rejects). See startReflector for one that goes on.
   * @throws an error for which isGone holds, when the server does not know the changes since that version any more.
   */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    request: WatchRequest,
    onEvent: (event: WatchEvent<T>) => void,
  ): Promise<void>;
  /** @throws AlreadyExists, Invalid, NotFound (namespace) */
  create<T extends KubeObject>(resource: Resource<T>, object: NewObject<T>): Promise<T>;
  /** Replaces everything but the status, if the resourceVersion still is that of the object. @throws Conflict, NotFound, Invalid */
  update<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T>;
  /** Replaces the status alone, if the resourceVersion still is that of the object. @throws Conflict, NotFound, Invalid */
  updateStatus<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T>;
  /** A JSON merge patch (RFC 7386) on the object, or on its status subresource. @throws Conflict, NotFound, Invalid */
  patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    patch: MergePatch,
    options?: { readonly subresource?: 'status' },
  ): Promise<T>;
  /** An object that is not there is no error. @throws Conflict if it is another than the preconditions say. */
  delete<T extends KubeObject>(resource: Resource<T>, key: ObjectKey, options?: DeleteOptions): Promise<void>;
}

export interface ListScope {
  /** Without it, all namespaces. */
  readonly namespace?: string;
  /** Kubernetes' text form, e.g. "app=db,tier!=test". */
  readonly labelSelector?: string;
}

export interface ObjectList<T> {
  readonly items: readonly T[];
  /** Where a watch continues. */
  readonly resourceVersion: string;
}

export interface WatchRequest extends ListScope {
  readonly resourceVersion: string;
  readonly signal: AbortSignal;
}

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  /** Nothing happened up to this version. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

/** null removes a key; an object is merged; anything else replaces. A resourceVersion in it is a precondition. */
export type MergePatch = Readonly<Record<string, unknown>>;

export interface DeleteOptions {
  readonly uid?: string;
  readonly resourceVersion?: string;
  /** Of a pod: 0 takes the object away without its node having ended it. */
  readonly gracePeriodSeconds?: number;
}
