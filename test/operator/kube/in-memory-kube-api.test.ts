import { beforeEach, describe, expect, test } from 'vitest';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import type { WatchEvent } from '../../../operator/kube/kube-api.ts';
import { isGone } from '../../../operator/kube/kube-error.ts';
import { namespaces } from '../../../operator/resources/core-kinds.ts';
import type { ObjectMeta } from '../../../operator/resources/kube-object.ts';
import { type NodePool, nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { waitFor } from '../../support/wait-for.ts';

const apiVersion = 'understudy.dev/v1alpha1';
let api: InMemoryKubeApi;
beforeEach(() => {
  api = new InMemoryKubeApi({ namespaces: ['default', 'shop'] });
});

function pool(name: string, metadata: Partial<ObjectMeta> = {}, spec: object = {}) {
  return {
    apiVersion,
    kind: 'NodePool',
    metadata: { ...metadata, name },
    spec: { node: 'a', name: 'main', directory: '/x', purpose: 'volumes' as const, ...spec },
  };
}

function volume(name: string, spec: object = {}) {
  // As people write it: what has a default is left out.
  const written = { size: '1Gi', nodeName: 'a', ...spec } as never;
  return { apiVersion, kind: 'PrimaryVolume', metadata: { name, namespace: 'shop' }, spec: written };
}

describe('writes', () => {
  test('creation sets what the server sets, and drops a status', async () => {
    const created = await api.create(nodePools, { ...pool('p'), status: { copies: 7 } });
    expect(created.metadata).toMatchObject({ name: 'p', generation: 1, uid: expect.any(String) });
    expect(created.status).toBeUndefined();
    await expect(api.create(nodePools, pool('p'))).rejects.toMatchObject({
      code: 'AlreadyExists',
      labels: { status: 409 },
    });
  });

  test('an update of an older version is a conflict, and changes nothing', async () => {
    const first = await api.create(nodePools, pool('p'));
    const second = await api.update(nodePools, { ...first, spec: { ...first.spec, capacity: '1Gi' } });
    await expect(api.update(nodePools, first)).rejects.toMatchObject({ code: 'Conflict' });
    const stale = { metadata: { resourceVersion: first.metadata.resourceVersion }, spec: { capacity: '2Gi' } };
    await expect(api.patch(nodePools, { name: 'p' }, stale)).rejects.toMatchObject({ code: 'Conflict' });
    expect(await api.get(nodePools, { name: 'p' })).toEqual(second);
  });

  test('the generation counts changes of the spec only, and nothing is written that is the same', async () => {
    const first = await api.create(nodePools, pool('p'));
    const labelled = await api.patch(nodePools, { name: 'p' }, { metadata: { labels: { a: 'b' } } });
    expect(labelled.metadata.generation).toBe(1);
    const changed = await api.patch(nodePools, { name: 'p' }, { spec: { capacity: '1Gi' } });
    expect(changed.metadata.generation).toBe(2);
    const same = await api.patch(nodePools, { name: 'p' }, { spec: { capacity: '1Gi' } });
    expect(same.metadata.resourceVersion).toBe(changed.metadata.resourceVersion);
    expect(Number(changed.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion));
  });

  test('the status is written through its subresource, and only there', async () => {
    await api.create(nodePools, pool('p'));
    await api.patch(nodePools, { name: 'p' }, { status: { copies: 1 }, spec: { capacity: '1Gi' } });
    expect((await api.get(nodePools, { name: 'p' }))?.status).toBeUndefined();
    const changes = { status: { copies: 2 }, spec: { capacity: '9Gi' }, metadata: { labels: { a: 'b' } } };
    const written = await api.patch(nodePools, { name: 'p' }, changes, { subresource: 'status' });
    expect(written).toMatchObject({ status: { copies: 2 }, spec: { capacity: '1Gi' }, metadata: { generation: 2 } });
    expect(written.metadata.labels).toBeUndefined();
  });

  test('what was read cannot be changed behind the back of the API', async () => {
    const created = await api.create(nodePools, pool('p'));
    expect(() => Object.assign(created.spec, { node: 'b' })).toThrow(TypeError);
  });
});

describe('admission', () => {
  test('fills in defaults and drops unknown fields', async () => {
    const created = await api.create(primaryVolumes, volume('v', { surprise: 1 }));
    expect(created.spec).toEqual({
      size: '1Gi',
      nodeName: 'a',
      pool: 'main',
      volumeMode: 'Filesystem',
      fsType: 'ext4',
      blockSize: 512,
      provisioning: 'Thick',
      reclaimPolicy: 'Delete',
      claim: true,
    });
  });

  test('refuses what breaks the schema or a rule, naming field, expected and got', async () => {
    await expect(api.create(primaryVolumes, volume('v', { size: 'huge' }))).rejects.toMatchObject({
      code: 'Invalid',
      labels: { status: 422 },
      message: expect.stringMatching(/spec\.size: expected .* got "huge"/),
    });
    await expect(api.create(primaryVolumes, volume('v', { nodeSelector: { a: 'b' } }))).rejects.toThrow(
      'spec.nodeName: expected exactly one of nodeName and nodeSelector, got both',
    );
  });

  test('refuses changes that are not allowed', async () => {
    await api.create(primaryVolumes, volume('v'));
    const change = (spec: object) => api.patch(primaryVolumes, { namespace: 'shop', name: 'v' }, { spec });
    await expect(change({ size: '512Mi' })).rejects.toThrow('spec.size: expected at least the size that it has');
    await expect(change({ fsType: 'xfs' })).rejects.toThrow('spec.fsType: expected the value it was created with');
    await expect(change({ nodeName: 'b' })).rejects.toThrow('spec.nodeName');
    expect((await change({ size: '2Gi' })).spec.size).toBe('2Gi');
  });

  test('without CEL, as in old clusters, checks shapes only', async () => {
    api = new InMemoryKubeApi({ namespaces: ['shop'], admission: 'without-cel' });
    await api.create(primaryVolumes, volume('v', { nodeSelector: { a: 'b' } }));
    await expect(api.create(primaryVolumes, volume('w', { size: 'huge' }))).rejects.toMatchObject({ code: 'Invalid' });
  });
});

describe('deletion', () => {
  test('an object with a finalizer stays, marked, until that is taken off', async () => {
    await api.create(nodePools, pool('p', { finalizers: ['test/hold'] }));
    await api.delete(nodePools, { name: 'p' });
    const marked = await api.get(nodePools, { name: 'p' });
    expect(marked?.metadata).toMatchObject({ deletionTimestamp: expect.any(String), generation: 2 });
    const more = { metadata: { finalizers: ['test/hold', 'test/more'] } };
    await expect(api.patch(nodePools, { name: 'p' }, more)).rejects.toMatchObject({ code: 'Invalid' });
    await api.patch(nodePools, { name: 'p' }, { metadata: { finalizers: [] } });
    expect(await api.get(nodePools, { name: 'p' })).toBeUndefined();
    await api.delete(nodePools, { name: 'p' });
  });

  test('preconditions protect the next object of that name', async () => {
    const created = await api.create(nodePools, pool('p'));
    await expect(api.delete(nodePools, { name: 'p' }, { uid: 'other' })).rejects.toMatchObject({ code: 'Conflict' });
    await expect(api.delete(nodePools, { name: 'p' }, { resourceVersion: '0' })).rejects.toMatchObject({
      code: 'Conflict',
    });
    await api.delete(nodePools, { name: 'p' }, { uid: created.metadata.uid });
    expect(await api.get(nodePools, { name: 'p' })).toBeUndefined();
  });

  test('dependents go with the last of their owners', async () => {
    const [one, two] = [await api.create(nodePools, pool('one')), await api.create(nodePools, pool('two'))];
    const owner = ({ metadata: { name, uid } }: NodePool) => ({ apiVersion, kind: 'NodePool', name, uid });
    await api.create(nodePools, pool('child', { ownerReferences: [owner(one), owner(two)] }));
    await api.delete(nodePools, { name: 'one' });
    expect(await api.get(nodePools, { name: 'child' })).toBeDefined();
    await api.delete(nodePools, { name: 'two' });
    expect(await api.get(nodePools, { name: 'child' })).toBeUndefined();
  });

  test('a namespace goes when the last object in it has', async () => {
    const held = volume('held');
    await api.create(primaryVolumes, { ...held, metadata: { ...held.metadata, finalizers: ['test/hold'] } });
    await api.create(primaryVolumes, volume('free'));
    await api.delete(namespaces, { name: 'shop' });
    expect((await api.list(primaryVolumes)).items.map(({ metadata }) => metadata.name)).toEqual(['held']);
    await expect(api.create(primaryVolumes, volume('late'))).rejects.toMatchObject({ labels: { status: 403 } });
    await api.patch(primaryVolumes, { namespace: 'shop', name: 'held' }, { metadata: { finalizers: null } });
    expect(await api.get(namespaces, { name: 'shop' })).toBeUndefined();
    await expect(api.create(primaryVolumes, volume('late'))).rejects.toMatchObject({ code: 'NotFound' });
  });
});

describe('list and watch', () => {
  const names = (items: readonly { metadata: ObjectMeta }[]) => items.map(({ metadata }) => metadata.name);

  test('namespaces and label selectors narrow a list', async () => {
    await api.create(nodePools, pool('db', { labels: { app: 'db', tier: 'gold' } }));
    await api.create(nodePools, pool('web', { labels: { app: 'web' } }));
    await api.create(nodePools, pool('bare'));
    const select = async (labelSelector: string) => names((await api.list(nodePools, { labelSelector })).items);
    expect(await select('app=db')).toEqual(['db']);
    expect(await select('app!=db')).toEqual(['web', 'bare']);
    expect(await select('app in (db, web),tier')).toEqual(['db']);
    expect(await select('app notin (db)')).toEqual(['web', 'bare']);
    expect(await select('!app')).toEqual(['bare']);
    await expect(select('a=b=c d')).rejects.toMatchObject({ code: 'Invalid' });
    expect((await api.list(primaryVolumes, { namespace: 'default' })).items).toEqual([]);
  });

  async function watched(options: { labelSelector?: string } = {}) {
    const { resourceVersion } = await api.list(nodePools);
    const seen: string[] = [];
    const stop = new AbortController();
    const onEvent = (event: WatchEvent<NodePool>) => {
      seen.push(event.type === 'BOOKMARK' ? 'BOOKMARK' : `${event.type} ${event.object.metadata.name}`);
    };
    const ended = api.watch(nodePools, { ...options, resourceVersion, signal: stop.signal }, onEvent);
    return { seen, ended, stop };
  }

  test('a watch delivers what happened after its version, in order', async () => {
    await api.create(nodePools, pool('before'));
    const { seen, ended, stop } = await watched();
    await api.create(nodePools, pool('p'));
    await api.patch(nodePools, { name: 'p' }, { spec: { capacity: '1Gi' } });
    await api.delete(nodePools, { name: 'p' });
    await api.create(primaryVolumes, volume('another-kind'));
    await waitFor(() => seen.length === 3, { timeoutMs: 5000 });
    expect(seen).toEqual(['ADDED p', 'MODIFIED p', 'DELETED p']);
    stop.abort(new Error('enough'));
    await expect(ended).rejects.toThrow('enough');
  });

  test('an object that begins or ceases to match is added or deleted', async () => {
    await api.create(nodePools, pool('p'));
    const { seen, ended } = await watched({ labelSelector: 'app=db' });
    await api.patch(nodePools, { name: 'p' }, { metadata: { labels: { app: 'db' } } });
    await api.patch(nodePools, { name: 'p' }, { metadata: { labels: { app: 'web' } } });
    await waitFor(() => seen.length === 2, { timeoutMs: 5000 });
    expect(seen).toEqual(['ADDED p', 'DELETED p']);
    api.endWatches();
    await ended;
  });

  test('a watch from before the history is gone', async () => {
    api = new InMemoryKubeApi({ historyLimit: 2 });
    for (const name of ['a', 'b', 'c']) await api.create(nodePools, pool(name));
    const tooOld = api.watch(nodePools, { resourceVersion: '1', signal: new AbortController().signal }, () => {});
    await expect(tooOld).rejects.toSatisfy(isGone);
  });
});

test('namespaced and cluster-scoped kinds are not confused', async () => {
  await expect(api.create(nodePools, pool('p', { namespace: 'shop' }))).rejects.toMatchObject({ code: 'Invalid' });
  const bare = { ...volume('v'), metadata: { name: 'v' } };
  await expect(api.create(primaryVolumes, bare)).rejects.toMatchObject({ code: 'Invalid' });
  expect(await api.get(snapshots, { namespace: 'shop', name: 'none' })).toBeUndefined();
});
