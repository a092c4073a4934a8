import type { Clock } from '../../common/clock.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi, ListScope } from '../kube/kube-api.ts';
import { startReflector } from '../kube/reflector.ts';
import { type KubeObject, keyOf, keyText, type ObjectKey } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import type { OperatorMetrics } from './metrics.ts';

export interface CacheOptions<T extends KubeObject> {
  readonly api: KubeApi;
  readonly resource: Resource<T>;
  readonly scope: ListScope;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly metrics: OperatorMetrics;
}

/** Far more than can go while one request is under way. */
const rememberedGone = 10_000;

/** Called after each change with the object before and after it; one of them is undefined for creation and removal. */
export type ChangeHandler<T> = (before: T | undefined, after: T | undefined) => void;

/**
 * The objects of a kind as last heard of, kept up to date by a watch.
 *
 * Invariants:
 * - An object never goes back to an older resourceVersion: after a write of our own, put here at once, the watch may still
 *   deliver what was before it.
 * - An object that the watch reported as gone does not come back, although the answer to a write may arrive afterwards.
 */
export class ResourceCache<T extends KubeObject> {
  /** Resolves when everything has been listed once. */
  readonly synced: Promise<void>;
  readonly #objects = new Map<string, T>();
  /** Uids of objects that went lately. */
  readonly #gone = new Set<string>();
  readonly #handlers: ChangeHandler<T>[] = [];
  readonly #reflector: { stop(): Promise<void> };
  #isSynced = false;

  constructor(options: CacheOptions<T>) {
    const synced = Promise.withResolvers<void>();
    this.synced = synced.promise;
    const { resource, metrics } = options;
    this.#reflector = startReflector({
      ...options,
      onList: (items) => {
        this.#replaceAll(items);
        this.#isSynced = true;
        synced.resolve();
      },
      onChange: (type, object) => {
        if (type === 'DELETED') this.#remove(object);
        else this.put(object);
      },
      onRestart: () => metrics.watchRestarted(resource.kind),
    });
  }

  get isSynced(): boolean {
    return this.#isSynced;
  }

  get(key: ObjectKey): T | undefined {
    return this.#objects.get(keyText(key));
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  onChange(handler: ChangeHandler<T>): void {
    this.#handlers.push(handler);
  }

  /** Takes over what the API answered to a write. */
  put(object: T): void {
    const key = keyText(keyOf(object));
    const before = this.#objects.get(key);
    if (this.#gone.has(object.metadata.uid)) return;
    if (before !== undefined && !isNewer(object, before)) return;
    this.#objects.set(key, object);
    this.#notify(before, object);
  }

  async stop(): Promise<void> {
    await this.#reflector.stop();
  }

  #replaceAll(items: readonly T[]): void {
    const listed = new Set(items.map((item) => keyText(keyOf(item))));
    for (const [key, object] of [...this.#objects]) if (!listed.has(key)) this.#remove(object);
    for (const item of items) this.put(item);
  }

  #remove(object: T): void {
    const key = keyText(keyOf(object));
    const before = this.#objects.get(key);
    this.#rememberGone(object.metadata.uid);
    // The deletion of an older object of that name may be heard of after the creation of the next.
    if (before === undefined || before.metadata.uid !== object.metadata.uid) return;
    this.#objects.delete(key);
    this.#notify(before, undefined);
  }

  #rememberGone(uid: string): void {
    this.#gone.add(uid);
    const [oldest] = this.#gone;
    if (this.#gone.size > rememberedGone && oldest !== undefined) this.#gone.delete(oldest);
  }

  #notify(before: T | undefined, after: T | undefined): void {
    for (const handler of this.#handlers) handler(before, after);
  }
}

/** Source: KEP-5504, resource versions are decimal numbers that grow. Where they are not, the last one heard of counts. */
function isNewer(object: KubeObject, than: KubeObject): boolean {
  if (object.metadata.uid !== than.metadata.uid) return true;
  const [a, b] = [object.metadata.resourceVersion, than.metadata.resourceVersion];
  if (!/^[0-9]+$/.test(a) || !/^[0-9]+$/.test(b)) return a !== b;
  return BigInt(a) > BigInt(b);
}
