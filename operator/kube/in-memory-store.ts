import { assert } from '../../common/assert.ts';
import { type KubeObject, keyText, type ObjectKey } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import type { ListScope, WatchEvent } from './kube-api.ts';
import { kubeError } from './kube-error.ts';
import { parseLabelSelector } from './label-selector.ts';

/**
 * The objects of the in-memory API, by kind, with the history of their changes.
 *
 * Invariants:
 * - One counter gives every change of any kind a resourceVersion of its own, growing.
 * - Objects are frozen: a change is another object in the place of the old one.
 * - The history holds the last changes, at most `historyLimit`; whoever wants to continue from before its beginning is
 *   told so (410 Gone). Nothing survives the process.
 */
export class InMemoryStore {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #watchers = new Set<Watcher>();
  readonly #historyLimit: number;
  #history: Change[] = [];
  #lastVersion = 0;
  /** Changes up to this version are forgotten. */
  #forgottenVersion = 0;

  constructor(historyLimit: number) {
    this.#historyLimit = historyLimit;
  }

  get resourceVersion(): string {
    return String(this.#lastVersion);
  }

  get(resource: Resource, key: ObjectKey): KubeObject | undefined {
    return this.#ofKind(resource).get(keyText(key));
  }

  list(resource: Resource, scope: ListScope): KubeObject[] {
    const matches = scopeFilter(scope);
    return [...this.#ofKind(resource).values()].filter(matches);
  }

  /** Every object of every kind, with its kind's name. */
  *all(): Generator<{ readonly kind: string; readonly object: KubeObject }> {
    for (const [kind, objects] of this.#objects) for (const object of objects.values()) yield { kind, object };
  }

  /** Stores an object under a new resourceVersion. */
  put(resource: Resource, key: ObjectKey, object: KubeObject): KubeObject {
    const before = this.get(resource, key);
    const stored = this.#version(object);
    this.#ofKind(resource).set(keyText(key), stored);
    this.#record({ kind: kindText(resource), before, after: stored, version: this.#lastVersion });
    return stored;
  }

  remove(resource: Resource, key: ObjectKey): void {
    const before = this.get(resource, key);
    assert(before !== undefined, `only an object that is there is removed, not ${keyText(key)}`);
    this.#ofKind(resource).delete(keyText(key));
    const last = this.#version(before);
    this.#record({ kind: kindText(resource), before: last, after: undefined, version: this.#lastVersion });
  }

  /** Delivers the changes after a version, then those to come, until the signal aborts or `endWatches`. */
  watch(
    resource: Resource,
    scope: ListScope,
    resourceVersion: string,
    signal: AbortSignal,
    onEvent: (event: WatchEvent<KubeObject>) => void,
  ): Promise<void> {
    const from = Number(resourceVersion);
    if (from < this.#forgottenVersion) {
      throw kubeError(410, 'Expired', `too old resource version: ${from} (${this.#forgottenVersion})`);
    }
    return new Promise((resolve, reject) => {
      const watcher: Watcher = {
        kind: kindText(resource),
        matches: scopeFilter(scope),
        onEvent,
        queue: [],
        end: resolve,
      };
      const abort = () => {
        this.#watchers.delete(watcher);
        reject(signal.reason);
      };
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener('abort', abort, { once: true });
      this.#watchers.add(watcher);
      for (const change of this.#history) if (change.version > from) this.#offer(watcher, change);
    });
  }

  /** Ends every watch, as a server does from time to time. */
  endWatches(): void {
    for (const watcher of this.#watchers) watcher.end();
    this.#watchers.clear();
  }

  /** Forgets the history, so that a watch that continues from the past is Gone. */
  forgetHistory(): void {
    this.#history = [];
    this.#forgottenVersion = this.#lastVersion;
  }

  #ofKind(resource: Pick<Resource, 'group' | 'kind'>): Map<string, KubeObject> {
    const kind = kindText(resource);
    const objects = this.#objects.get(kind) ?? new Map<string, KubeObject>();
    this.#objects.set(kind, objects);
    return objects;
  }

  #version(object: KubeObject): KubeObject {
    this.#lastVersion += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.#lastVersion) };
    return deepFreeze(structuredClone({ ...object, metadata }));
  }

  #record(change: Change): void {
    this.#history.push(change);
    if (this.#history.length > this.#historyLimit) {
      this.#forgottenVersion = this.#history.shift()?.version ?? this.#forgottenVersion;
    }
    for (const watcher of this.#watchers) this.#offer(watcher, change);
  }

  /** Queues what a change means to a watcher; it is delivered after the call that made the change has returned. */
  #offer(watcher: Watcher, change: Change): void {
    const event = eventFor(watcher, change);
    if (event === undefined) return;
    watcher.queue.push(event);
    if (watcher.queue.length > 1) return;
    queueMicrotask(() => {
      const events = watcher.queue.splice(0);
      for (const next of events) if (this.#watchers.has(watcher)) watcher.onEvent(next);
    });
  }
}

interface Change {
  readonly kind: string;
  readonly before: KubeObject | undefined;
  readonly after: KubeObject | undefined;
  readonly version: number;
}

interface Watcher {
  readonly kind: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly onEvent: (event: WatchEvent<KubeObject>) => void;
  readonly queue: WatchEvent<KubeObject>[];
  readonly end: () => void;
}

/**
 * An object that begins or ceases to match the selector is added or deleted, for that watcher. Like the API server's, the
 * deletion then carries the content that matched, under the version of the change.
 */
function eventFor(watcher: Watcher, change: Change): WatchEvent<KubeObject> | undefined {
  if (change.kind !== watcher.kind) return undefined;
  const before = change.before !== undefined && watcher.matches(change.before);
  const after = change.after !== undefined && watcher.matches(change.after);
  if (after && change.after) return { type: before ? 'MODIFIED' : 'ADDED', object: change.after };
  if (before && change.before) return { type: 'DELETED', object: atVersion(change.before, change.version) };
  return undefined;
}

function atVersion(object: KubeObject, version: number): KubeObject {
  return deepFreeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(version) } });
}

function scopeFilter(scope: ListScope): (object: KubeObject) => boolean {
  const selects = parseLabelSelector(scope.labelSelector ?? '');
  return ({ metadata }) =>
    (scope.namespace === undefined || metadata.namespace === scope.namespace) && selects(metadata.labels);
}

function kindText(resource: Pick<Resource, 'group' | 'kind'>): string {
  return `${resource.kind}.${resource.group}`;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
