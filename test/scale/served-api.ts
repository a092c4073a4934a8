import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { UnderstudyError } from '../../common/errors.ts';
import type { KubeApi, WatchEvent } from '../../operator/kube/kube-api.ts';
import { customResources } from '../../operator/resources/all-kinds.ts';
import { events, namespaces, nodes, pods } from '../../operator/resources/core-kinds.ts';
import { jobs } from '../../operator/resources/job.ts';
import type { KubeObject, ObjectKey } from '../../operator/resources/kube-object.ts';
import type { Resource } from '../../operator/resources/resource.ts';
import { persistentVolumeClaims, persistentVolumes, storageClasses } from '../../operator/resources/storage-kinds.ts';

const core = [namespaces, nodes, pods, events, jobs, persistentVolumes, persistentVolumeClaims, storageClasses];
const resources: readonly Resource[] = [...customResources, ...core];

/** How often a real server tells a watch that nothing has happened. */
const bookmarkMs = 60_000;

interface Target {
  readonly resource: Resource;
  readonly namespace?: string;
  readonly name?: string;
  readonly subresource?: string;
  readonly query: URLSearchParams;
}

/**
 * An API in memory over HTTP, for an operator that is a process of its own; every request is counted. Objects carry
 * managedFields as those of a real server do: one entry for whoever made the object, one for whoever writes its status.
 */
export class ServedApi {
  requests = 0;
  readonly #api: KubeApi;
  readonly #server: Server;

  private constructor(api: KubeApi, server: Server) {
    this.#api = api;
    this.#server = server;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  static async start(api: KubeApi): Promise<ServedApi> {
    const server = createServer();
    const started = new ServedApi(api, server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return started;
  }

  /** The text of a kubeconfig for it. */
  kubeconfig(): string {
    const { port } = this.#server.address() as AddressInfo;
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        // The client library refuses clear text otherwise.
        { name: 'memory', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } },
      ],
      users: [{ name: 'operator', user: { token: 'none' } }],
      contexts: [{ name: 'memory', context: { cluster: 'memory', user: 'operator' } }],
      'current-context': 'memory',
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    try {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece);
      const target = targetOf(request.url ?? '');
      if (target.query.get('watch') === 'true') await this.#watch(target, request, response);
      else send(response, 200, await this.#answer(request.method ?? '', target, Buffer.concat(pieces).toString()));
    } catch (error) {
      if (!(error instanceof UnderstudyError)) throw error;
      const { status = 500, reason = 'Unknown' } = error.labels;
      send(response, Number(status), { kind: 'Status', code: Number(status), reason, message: error.message });
    }
  }

  async #answer(method: string, target: Target, text: string): Promise<object> {
    const { resource, namespace, name } = target;
    const key: ObjectKey = { ...(namespace === undefined ? {} : { namespace }), name: name ?? '' };
    const body = text === '' ? {} : JSON.parse(text);
    switch (`${method} ${name === undefined ? 'collection' : (target.subresource ?? 'object')}`) {
      case 'GET collection': {
        const { items, resourceVersion } = await this.#api.list(resource, scopeOf(target));
        return { kind: `${resource.kind}List`, metadata: { resourceVersion }, items: items.map(managed) };
      }
      case 'GET object': {
        const object = await this.#api.get(resource, key);
        if (object !== undefined) return managed(object);
        throw new UnderstudyError('NotFound', `${resource.plural} "${name}" not found`, {
          labels: { status: 404, reason: 'NotFound' },
        });
      }
      case 'POST collection':
        return managed(await this.#api.create(resource, body));
      case 'PUT object':
        return managed(await this.#api.update(resource, body));
      case 'PUT status':
        return managed(await this.#api.updateStatus(resource, body));
      case 'PATCH object':
        return managed(await this.#api.patch(resource, key, body));
      case 'PATCH status':
        return managed(await this.#api.patch(resource, key, body, { subresource: 'status' }));
      case 'DELETE object':
        await this.#api.delete(resource, key, body.preconditions);
        return { kind: 'Status', status: 'Success' };
      default:
        throw new UnderstudyError('Invalid', `${method} is not served`, { labels: { status: 405 } });
    }
  }

  async #watch(target: Target, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { resource, query } = target;
    const end = new AbortController();
    let resourceVersion = query.get('resourceVersion') ?? '0';
    const begin = () => {
      if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    };
    const write = (event: object) => {
      begin();
      response.write(`${JSON.stringify(event)}\n`);
    };
    const bookmark = setInterval(
      () => write({ type: 'BOOKMARK', object: { kind: resource.kind, metadata: { resourceVersion } } }),
      bookmarkMs,
    );
    const timeout = setTimeout(() => end.abort(), Number(query.get('timeoutSeconds') ?? 300) * 1000);
    request.socket.once('close', () => end.abort());
    const onEvent = (event: WatchEvent<KubeObject>) => {
      if (event.type === 'BOOKMARK') return;
      resourceVersion = event.object.metadata.resourceVersion;
      write({ type: event.type, object: managed(event.object) });
    };
    try {
      const watching = this.#api.watch(resource, { ...scopeOf(target), resourceVersion, signal: end.signal }, onEvent);
      // What is too old is refused at once; what is not has begun.
      await Promise.race([watching, Promise.resolve()]);
      begin();
      await watching.catch((error) => {
        if (!end.signal.aborted) throw error;
      });
      response.end();
    } finally {
      clearInterval(bookmark);
      clearTimeout(timeout);
    }
  }
}

/** Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris */
function targetOf(url: string): Target {
  const { pathname, searchParams: query } = new URL(url, 'http://memory');
  const found =
    /^\/(?:api|apis\/(?<group>[^/]+))\/(?<version>[^/]+)(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+)(?:\/(?<subresource>[^/]+))?)?$/.exec(
      pathname,
    );
  const { group = '', plural, version, ...rest } = found?.groups ?? {};
  const resource = resources.find((known) => {
    return known.group === group && known.plural === plural && known.version === version;
  });
  if (resource === undefined) {
    throw new UnderstudyError('NotFound', `not served here: ${pathname}`, { labels: { status: 404 } });
  }
  const present = Object.entries(rest).filter(([, value]) => value !== undefined);
  return { resource, query, ...Object.fromEntries(present.map(([key, value]) => [key, decodeURIComponent(value)])) };
}

function scopeOf({ namespace, query }: Target) {
  const labelSelector = query.get('labelSelector');
  return { ...(namespace === undefined ? {} : { namespace }), ...(labelSelector === null ? {} : { labelSelector }) };
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management */
function managed<T extends KubeObject>(object: T): T {
  const { metadata, apiVersion, kind: _, status, ...rest } = object as T & { status?: object };
  const time = '2026-01-01T00:00:00Z';
  const entry = (manager: string, fields: object, subresource?: string) => ({
    manager,
    operation: 'Update',
    apiVersion,
    time,
    fieldsType: 'FieldsV1',
    fieldsV1: fieldSet(fields),
    ...(subresource === undefined ? {} : { subresource }),
  });
  const { labels, annotations, finalizers } = metadata;
  const written = { metadata: { labels, annotations, finalizers }, ...rest };
  const managedFields = [entry('kubectl', written), ...(status ? [entry('understudy', { status }, 'status')] : [])];
  return { ...object, metadata: { ...metadata, managedFields } };
}

/** Every field that somebody owns, as a tree of empty objects; items of lists are owned by their keys. */
function fieldSet(value: unknown): object {
  if (Array.isArray(value)) {
    return Object.fromEntries(
      value.map((item) => [`k:${JSON.stringify(keyFieldOf(item))}`, { '.': {}, ...fieldSet(item) }]),
    );
  }
  if (typeof value !== 'object' || value === null) return {};
  const owned = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(owned.map(([name, inner]) => [`f:${name}`, fieldSet(inner)]));
}

function keyFieldOf(item: unknown): unknown {
  if (typeof item !== 'object' || item === null) return item;
  const name = Object.entries(item).find(([key]) => key === 'type' || key === 'name' || key === 'node');
  return Object.fromEntries(name === undefined ? [] : [name]);
}
