import type { KubeConfig } from '@kubernetes/client-node';
import { type Clock, systemClock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { type KubeObject, keyOf, type NewObject, type ObjectKey } from '../resources/kube-object.ts';
import { apiVersionOf, type Resource } from '../resources/resource.ts';
import { readJsonLines } from './json-lines.ts';
import type {
  DeleteOptions,
  KubeApi,
  ListScope,
  MergePatch,
  ObjectList,
  WatchEvent,
  WatchRequest,
} from './kube-api.ts';
import { isGone, isNotFound, kubeError } from './kube-error.ts';
import { KubeTransport, type KubeTransportOptions, statusFields } from './kube-transport.ts';
import type { ContainerRef, RunningCommand } from './pod-exec.ts';
import { execOverWebSocket } from './websocket-exec.ts';

/** Objects per page of a list. */
const pageLimit = 500;
/** The server ends a watch after this time; it is then continued on a new connection. */
const watchSeconds = 290;

/** The API of a real cluster, reached as a kubeconfig says. */
export class RealKubeApi implements KubeApi {
  readonly #transport: KubeTransport;
  readonly #config: KubeConfig;

  constructor(config: KubeConfig, clock: Clock = systemClock, options: KubeTransportOptions = {}) {
    this.#config = config;
    this.#transport = new KubeTransport(config, clock, options);
  }

  async get<T extends KubeObject>(resource: Resource<T>, key: ObjectKey): Promise<T | undefined> {
    try {
      return kept<T>(await this.#transport.json({ method: 'GET', path: objectPath(resource, key) }));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async list<T extends KubeObject>(resource: Resource<T>, scope: ListScope = {}): Promise<ObjectList<T>> {
    try {
      return await this.#listPages(resource, scope);
    } catch (error) {
      if (!isGone(error)) throw error;
      // The list was too old before its last page was read.
      return await this.#listPages(resource, scope);
    }
  }

  async #listPages<T extends KubeObject>(resource: Resource<T>, scope: ListScope): Promise<ObjectList<T>> {
    const items: T[] = [];
    let next = '';
    for (;;) {
      const query = scopeQuery(scope);
      query.set('limit', String(pageLimit));
      if (next !== '') query.set('continue', next);
      const answer = await this.#transport.json({ method: 'GET', path: `${collectionPath(resource, scope)}?${query}` });
      const page = answer as { items?: T[]; metadata?: { continue?: string; resourceVersion?: string } };
      // Items of a list leave out what the list itself says.
      const type = { apiVersion: apiVersionOf(resource), kind: resource.kind };
      items.push(...(page.items ?? []).map((item) => kept<T>({ ...item, ...type })));
      next = page.metadata?.continue ?? '';
      if (next === '') return { items, resourceVersion: page.metadata?.resourceVersion ?? '0' };
    }
  }

  async watch<T extends KubeObject>(
    resource: Resource<T>,
    request: WatchRequest,
    onEvent: (event: WatchEvent<T>) => void,
  ): Promise<void> {
    const query = scopeQuery(request);
    query.set('watch', 'true');
    query.set('allowWatchBookmarks', 'true');
    query.set('resourceVersion', request.resourceVersion);
    query.set('timeoutSeconds', String(watchSeconds));
    const path = `${collectionPath(resource, request)}?${query}`;
    const stream = await this.#transport.stream({ method: 'GET', path }, request.signal);
    try {
      for await (const line of readJsonLines(stream)) onEvent(toWatchEvent<T>(line));
    } catch (error) {
      if (request.signal.aborted) throw request.signal.reason;
      if (error instanceof UnderstudyError) throw error;
      throw kubeError(503, 'Unreachable', `the watch of ${resource.plural} broke off`, error);
    }
    if (request.signal.aborted) throw request.signal.reason;
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: NewObject<T>): Promise<T> {
    const body = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
    return kept(await this.#transport.json({ method: 'POST', path: collectionPath(resource, object.metadata), body }));
  }

  async update<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    return kept(await this.#transport.json({ method: 'PUT', path: objectPath(resource, keyOf(object)), body: object }));
  }

  async updateStatus<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    const path = `${objectPath(resource, keyOf(object))}/status`;
    return kept(await this.#transport.json({ method: 'PUT', path, body: object }));
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    patch: MergePatch,
    options: { readonly subresource?: 'status' } = {},
  ): Promise<T> {
    const suffix = options.subresource === undefined ? '' : `/${options.subresource}`;
    return kept(
      await this.#transport.json({
        method: 'PATCH',
        path: objectPath(resource, key) + suffix,
        body: patch,
        contentType: 'application/merge-patch+json',
      }),
    );
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    key: ObjectKey,
    { gracePeriodSeconds, ...preconditions }: DeleteOptions = {},
  ): Promise<void> {
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
      preconditions,
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    };
    try {
      await this.#transport.json({ method: 'DELETE', path: objectPath(resource, key), body });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  exec(container: ContainerRef, command: readonly string[]): Promise<RunningCommand> {
    return execOverWebSocket(this.#config, container, command);
  }
}

/**
 * An object as the operator keeps it. Who set which field is of no use to it and can be larger than all the rest; the server
 * does not forget that when the object is written without.
 */
function kept<T extends KubeObject>(answer: unknown): T {
  const object = answer as T;
  const { managedFields: _, ...metadata } = object.metadata as T['metadata'] & { managedFields?: unknown };
  return { ...object, metadata };
}

function toWatchEvent<T extends KubeObject>(line: unknown): WatchEvent<T> {
  const { type, object } = line as { type?: unknown; object?: unknown };
  if (typeof object !== 'object' || object === null) throw kubeError(502, 'BadEvent', 'a watch event has no object');
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type, object: kept<T>(object) };
    case 'BOOKMARK':
      return { type, resourceVersion: (object as T).metadata.resourceVersion };
    case 'ERROR': {
      const status = statusFields(object);
      throw kubeError(status.code ?? 500, status.reason ?? 'Unknown', status.message ?? 'the watch failed');
    }
    default:
      throw kubeError(502, 'BadEvent', `a watch event has the unknown type ${String(type)}`);
  }
}

/** Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris */
function collectionPath(resource: Resource, scope: { readonly namespace?: string }): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const within = resource.namespaced && scope.namespace !== undefined;
  return `${root}${within ? `/namespaces/${encodeURIComponent(scope.namespace)}` : ''}/${resource.plural}`;
}

function objectPath(resource: Resource, key: ObjectKey): string {
  return `${collectionPath(resource, key)}/${encodeURIComponent(key.name)}`;
}

function scopeQuery(scope: ListScope): URLSearchParams {
  const query = new URLSearchParams();
  if (scope.labelSelector !== undefined) query.set('labelSelector', scope.labelSelector);
  return query;
}
