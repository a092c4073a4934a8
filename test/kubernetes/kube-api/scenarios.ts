import type { KubeApi, WatchEvent } from '../../../operator/kube/kube-api.ts';
import { namespaces } from '../../../operator/resources/core-kinds.ts';
import type { KubeObject, NewObject } from '../../../operator/resources/kube-object.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import type { Resource } from '../../../operator/resources/resource.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { waitFor } from '../../support/wait-for.ts';
import { outcome, type Transcript, view } from './transcript.ts';

/** One story told to an API; what the API answers is its transcript, the same for every implementation. */
export interface Scenario {
  readonly name: string;
  /** `namespace` exists and is empty. */
  tell(api: KubeApi, namespace: string): Promise<Transcript>;
}

const settleMs = 30_000;

/** A valid object of a kind with the least that can be said, so that defaults show. */
function manifest(resource: Resource, namespace: string, name: string, spec: object, metadata: object = {}) {
  return {
    apiVersion: 'understudy.dev/v1alpha1',
    kind: resource.kind,
    metadata: { name, ...(resource.namespaced ? { namespace } : {}), ...metadata },
    spec,
  } as unknown as NewObject<KubeObject>;
}

const volume = (namespace: string, name: string, metadata: object = {}) =>
  manifest(primaryVolumes, namespace, name, { size: '1Gi', nodeName: 'node-a' }, metadata);

const kept = 'understudy.dev/test';

export const scenarios: readonly Scenario[] = [
  {
    name: 'what is left out of a spec is filled in, what is unknown is dropped',
    async tell(api, namespace) {
      const mirror = { primaryVolumeRef: { name: 'data' }, nodeName: 'node-b', buffer: { pool: 'b', capacity: '1Gi' } };
      const pool = { node: 'node-a', name: 'main', directory: '/srv', unknown: 1 };
      const transcript = [
        await outcome(api.create(primaryVolumes, volume(namespace, 'data') as never)),
        await outcome(api.create(standbyMirrors, manifest(standbyMirrors, namespace, 'copy', mirror) as never)),
        await outcome(
          api.create(snapshots, manifest(snapshots, namespace, 'now', { source: { mirror: 'copy' } }) as never),
        ),
        await outcome(
          api.create(
            snapshots,
            manifest(snapshots, namespace, 'quiet', {
              source: { mirror: 'copy' },
              consistency: { lull: { timeout: '1s' }, freeze: {} },
            }) as never,
          ),
        ),
        await outcome(api.create(nodePools, manifest(nodePools, namespace, `${namespace}-pool`, pool) as never)),
      ];
      await api.delete(nodePools, { name: `${namespace}-pool` });
      return transcript;
    },
  },
  {
    name: 'what breaks the schema is refused',
    async tell(api, namespace) {
      const attempt = (spec: object) =>
        outcome(api.create(primaryVolumes, manifest(primaryVolumes, namespace, 'bad', spec) as never));
      return [
        await attempt({ nodeName: 'node-a' }),
        await attempt({ size: 'large', nodeName: 'node-a' }),
        await attempt({ size: '1Gi', nodeName: 'Node A' }),
        await attempt({ size: '1Gi', nodeName: 'node-a', blockSize: 1000 }),
        await attempt({ size: '1Gi', nodeName: 'node-a', fsType: 'ntfs' }),
        await attempt({ size: '1Gi', nodeSelector: {} }),
        await outcome(api.get(primaryVolumes, { namespace, name: 'bad' })),
      ];
    },
  },
  {
    name: 'a name is taken once, and only in a namespace that is there',
    async tell(api, namespace) {
      return [
        await outcome(api.create(primaryVolumes, volume(namespace, 'data') as never)),
        await outcome(api.create(primaryVolumes, volume(namespace, 'data') as never)),
        await outcome(api.create(primaryVolumes, volume('not-there', 'data') as never)),
        await outcome(api.get(primaryVolumes, { namespace, name: 'other' })),
        await outcome(api.delete(primaryVolumes, { namespace, name: 'other' })),
        await outcome(api.patch(primaryVolumes, { namespace, name: 'other' }, { spec: { size: '2Gi' } })),
      ];
    },
  },
  {
    name: 'an update of what has changed meanwhile is a conflict',
    async tell(api, namespace) {
      const key = { namespace, name: 'data' };
      const first = await api.create(primaryVolumes, volume(namespace, 'data') as never);
      const second = await api.update(primaryVolumes, { ...first, spec: { ...first.spec, size: '2Gi' } });
      const stale = { metadata: { resourceVersion: first.metadata.resourceVersion } };
      return [
        view(second),
        await outcome(api.update(primaryVolumes, { ...first, spec: { ...first.spec, size: '3Gi' } })),
        await outcome(api.updateStatus(primaryVolumes, { ...first, status: { node: 'node-x' } })),
        await outcome(api.patch(primaryVolumes, key, { ...stale, spec: { size: '3Gi' } })),
        await outcome(api.patch(primaryVolumes, key, { spec: { size: '4Gi' } })),
      ];
    },
  },
  {
    name: 'an update that changes nothing leaves the version, one of labels the generation',
    async tell(api, namespace) {
      const created = await api.create(primaryVolumes, volume(namespace, 'data') as never);
      const same = await api.update(primaryVolumes, created);
      const labelled = await api.update(primaryVolumes, {
        ...same,
        metadata: { ...same.metadata, labels: { a: 'b' } },
      });
      const changed = await api.update(primaryVolumes, { ...labelled, spec: { ...labelled.spec, size: '2Gi' } });
      const patchedSame = await api.patch(
        primaryVolumes,
        { namespace, name: 'data' },
        { metadata: { labels: { a: 'b' } } },
      );
      return [
        same.metadata.resourceVersion === created.metadata.resourceVersion,
        labelled.metadata.resourceVersion === same.metadata.resourceVersion,
        patchedSame.metadata.resourceVersion === changed.metadata.resourceVersion,
        [created, same, labelled, changed].map(({ metadata }) => metadata.generation),
      ];
    },
  },
  {
    name: 'spec and status are written separately',
    async tell(api, namespace) {
      const key = { namespace, name: 'data' };
      const withStatus = { ...volume(namespace, 'data'), status: { node: 'node-a' } };
      const created = await api.create(primaryVolumes, withStatus as never);
      const stated = await api.updateStatus(primaryVolumes, {
        ...created,
        metadata: { ...created.metadata, labels: { ignored: 'yes' } },
        spec: { ...created.spec, size: '9Gi' },
        status: { node: 'node-a', epoch: 1 },
      });
      const updated = await api.update(primaryVolumes, {
        ...stated,
        spec: { ...stated.spec, size: '2Gi' },
        status: { node: 'node-x' },
      });
      return [
        view(created),
        view(stated),
        view(updated),
        await outcome(api.patch(primaryVolumes, key, { status: { node: 'node-y' } })),
        await outcome(api.patch(primaryVolumes, key, { status: { node: 'node-b' } }, { subresource: 'status' })),
        await outcome(api.patch(primaryVolumes, key, { spec: { size: '8Gi' } }, { subresource: 'status' })),
        await outcome(api.patch(primaryVolumes, key, { status: { epoch: 'one' } }, { subresource: 'status' })),
        await outcome(api.patch(primaryVolumes, key, { status: { epoch: null } }, { subresource: 'status' })),
      ];
    },
  },
  {
    name: 'a finalizer keeps what is being deleted, and none can be added then',
    async tell(api, namespace) {
      const key = { namespace, name: 'data' };
      await api.create(primaryVolumes, volume(namespace, 'data', { finalizers: [kept] }) as never);
      await api.delete(primaryVolumes, key);
      const going = await api.get(primaryVolumes, key);
      await api.delete(primaryVolumes, key);
      return [
        view(going),
        await outcome(api.patch(primaryVolumes, key, { metadata: { finalizers: [kept, 'understudy.dev/more'] } })),
        await outcome(api.patch(primaryVolumes, key, { spec: { size: '2Gi' } })),
        await outcome(api.patch(primaryVolumes, key, { metadata: { deletionTimestamp: null } })),
        await outcome(api.create(primaryVolumes, volume(namespace, 'data') as never)),
        await outcome(api.patch(primaryVolumes, key, { metadata: { finalizers: [] } }).then(() => 'released')),
        await outcome(api.get(primaryVolumes, key)),
      ];
    },
  },
  {
    name: 'a deletion may be bound to one incarnation',
    async tell(api, namespace) {
      const key = { namespace, name: 'data' };
      const first = await api.create(primaryVolumes, volume(namespace, 'data') as never);
      await api.delete(primaryVolumes, key, { uid: first.metadata.uid });
      const second = await api.create(primaryVolumes, volume(namespace, 'data') as never);
      const { uid, resourceVersion } = second.metadata;
      await api.patch(primaryVolumes, key, { metadata: { labels: { a: 'b' } } });
      return [
        await outcome(api.delete(primaryVolumes, key, { uid: first.metadata.uid })),
        await outcome(api.delete(primaryVolumes, key, { uid, resourceVersion })),
        await outcome(api.delete(primaryVolumes, key, { uid })),
        await outcome(api.get(primaryVolumes, key)),
      ];
    },
  },
  {
    name: 'lists know namespaces and labels',
    async tell(api, namespace) {
      await api.create(primaryVolumes, volume(namespace, 'a', { labels: { app: 'db', tier: 'one' } }) as never);
      await api.create(primaryVolumes, volume(namespace, 'b', { labels: { app: 'db' } }) as never);
      await api.create(primaryVolumes, volume(namespace, 'c') as never);
      const names = async (labelSelector?: string) => {
        const scope = labelSelector === undefined ? { namespace } : { namespace, labelSelector };
        return (await api.list(primaryVolumes, scope)).items.map(({ metadata }) => metadata.name).sort();
      };
      return [
        await names(),
        await names('app=db'),
        await names('app=db,!tier'),
        await names('tier in (one,two)'),
        await names('tier notin (one)'),
        await names('app!=db'),
        (await api.list(primaryVolumes, { namespace: 'not-there' })).items,
      ];
    },
  },
  {
    name: 'a watch tells every change in order, and of a selector what enters and leaves it',
    async tell(api, namespace) {
      const key = { namespace, name: 'data' };
      await api.create(primaryVolumes, volume(namespace, 'before') as never);
      const { resourceVersion } = await api.list(primaryVolumes, { namespace });
      const all = collect(api, primaryVolumes, { namespace, resourceVersion });
      const some = collect(api, primaryVolumes, { namespace, resourceVersion, labelSelector: 'app=db' });

      const labels = { app: 'db' };
      await api.create(primaryVolumes, volume(namespace, 'data', { labels, finalizers: [kept] }) as never);
      await api.patch(primaryVolumes, key, { spec: { size: '2Gi' } });
      await api.patch(primaryVolumes, key, { spec: { size: '2Gi' } });
      await api.patch(primaryVolumes, key, { status: { node: 'node-a' } }, { subresource: 'status' });
      await api.patch(primaryVolumes, key, { metadata: { labels: { app: 'web' } } });
      await api.patch(primaryVolumes, key, { metadata: { labels } });
      await api.delete(primaryVolumes, key);
      await api.patch(primaryVolumes, key, { metadata: { finalizers: null } });
      await api.delete(primaryVolumes, { namespace, name: 'before' });

      return [await all.until('DELETED', 'before'), await some.until('DELETED', 'data', 2)];
    },
  },
  {
    name: 'a watch continues from a version in the past',
    async tell(api, namespace) {
      const { resourceVersion } = await api.list(primaryVolumes, { namespace });
      await api.create(primaryVolumes, volume(namespace, 'one') as never);
      const middle = await api.create(primaryVolumes, volume(namespace, 'two') as never);
      await api.create(primaryVolumes, volume(namespace, 'three') as never);
      const late = collect(api, primaryVolumes, { namespace, resourceVersion });
      const later = collect(api, primaryVolumes, {
        namespace,
        resourceVersion: middle.metadata.resourceVersion,
      });
      return [await late.until('ADDED', 'three'), await later.until('ADDED', 'three')];
    },
  },
  {
    name: 'a namespace goes when the last finalizer in it does',
    async tell(api, namespace) {
      const inner = `${namespace}-inner`;
      const key = { namespace: inner, name: 'data' };
      await api.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: inner } });
      await api.create(primaryVolumes, volume(inner, 'data', { finalizers: [kept] }) as never);
      await api.create(primaryVolumes, volume(inner, 'free') as never);
      await api.delete(namespaces, { name: inner });

      await waitFor(async () => (await api.get(primaryVolumes, key))?.metadata.deletionTimestamp !== undefined, {
        timeoutMs: settleMs,
      });
      await waitFor(async () => (await api.get(primaryVolumes, { ...key, name: 'free' })) === undefined, {
        timeoutMs: settleMs,
      });
      const going = await api.get(namespaces, { name: inner });
      const refused = await outcome(api.create(primaryVolumes, volume(inner, 'late') as never));
      const written = await outcome(
        api.patch(primaryVolumes, key, { status: { node: 'node-a' } }, { subresource: 'status' }),
      );

      await api.patch(primaryVolumes, key, { metadata: { finalizers: null } });

      await waitFor(async () => (await api.get(namespaces, { name: inner })) === undefined, { timeoutMs: settleMs });
      return [
        going?.metadata.deletionTimestamp !== undefined,
        refused,
        written,
        await outcome(api.get(primaryVolumes, key)),
      ];
    },
  },
  {
    name: 'what is owned goes after its owner',
    async tell(api, namespace) {
      const owner = await api.create(primaryVolumes, volume(namespace, 'owner') as never);
      const { name, uid } = owner.metadata;
      const ownerReferences = [{ apiVersion: owner.apiVersion, kind: owner.kind, name, uid, controller: true }];
      await api.create(primaryVolumes, volume(namespace, 'owned', { ownerReferences }) as never);
      await api.create(primaryVolumes, volume(namespace, 'bystander') as never);
      await api.delete(primaryVolumes, { namespace, name });
      await waitFor(async () => (await api.list(primaryVolumes, { namespace })).items.length === 1, {
        timeoutMs: settleMs,
      });
      return (await api.list(primaryVolumes, { namespace })).items.map(view);
    },
  },
];

/** Watches until the event asked for has come for the n-th time; gives what came up to then, without bookmarks. */
function collect<T extends KubeObject>(
  api: KubeApi,
  resource: Resource<T>,
  scope: { namespace: string; resourceVersion: string; labelSelector?: string },
) {
  const events: WatchEvent<T>[] = [];
  const abort = new AbortController();
  const ended = api.watch(resource, { ...scope, signal: abort.signal }, (event) => events.push(event)).catch(() => {});
  return {
    async until(type: string, name: string, times = 1): Promise<Transcript> {
      const changes = () => events.flatMap((event) => (event.type === 'BOOKMARK' ? [] : [event]));
      const wanted = () => changes().filter((event) => event.type === type && event.object.metadata.name === name);
      await waitFor(() => wanted().length >= times, { timeoutMs: settleMs }).catch(() => {});
      abort.abort();
      await ended;
      return changes().map(({ type, object }) => ({ type, object: view(object) }));
    },
  };
}
