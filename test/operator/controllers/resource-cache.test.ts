import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { noMetrics } from '../../../operator/controllers/metrics.ts';
import { ResourceCache } from '../../../operator/controllers/resource-cache.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import { type NodePool, nodePools } from '../../../operator/resources/node-pool.ts';
import { waitFor } from '../../support/wait-for.ts';

let cache: ResourceCache<NodePool>;
afterEach(() => cache.stop());

async function start(api: InMemoryKubeApi): Promise<void> {
  cache = new ResourceCache({
    api,
    resource: nodePools,
    scope: {},
    clock: systemClock,
    random: () => 0,
    log: silentLog,
    metrics: noMetrics,
  });
  await cache.synced;
}

function pool(name: string) {
  return {
    apiVersion: 'understudy.dev/v1alpha1',
    kind: 'NodePool',
    metadata: { name },
    spec: { node: 'a', name, directory: '/x', purpose: 'volumes' as const },
  };
}

const timeoutMs = 5000;

test('follows creations, changes and deletions', async () => {
  const api = new InMemoryKubeApi();
  await api.create(nodePools, pool('before'));
  await start(api);
  const heard: string[] = [];
  cache.onChange((before, after) =>
    heard.push(`${before ? '-' : ''}${after ? '+' : ''}${(after ?? before)?.metadata.name}`),
  );
  expect(cache.list().map(({ metadata }) => metadata.name)).toEqual(['before']);
  await api.create(nodePools, pool('main'));
  await api.patch(nodePools, { name: 'main' }, { spec: { capacity: '1Gi' } });
  await api.delete(nodePools, { name: 'before' });
  await waitFor(() => heard.length === 3, { timeoutMs });
  expect(heard).toEqual(['+main', '-+main', '-before']);
  expect(cache.get({ name: 'main' })?.spec.capacity).toBe('1Gi');
});

test('an answer to a write counts at once, and an older one never', async () => {
  const api = new InMemoryKubeApi();
  const created = await api.create(nodePools, pool('main'));
  await start(api);
  const written = { ...created, metadata: { ...created.metadata, resourceVersion: '1000' } };
  cache.put(written);
  cache.put(created);
  expect(cache.get({ name: 'main' })).toBe(written);
});

test('what has gone does not come back with the late answer to a write', async () => {
  const api = new InMemoryKubeApi();
  const created = await api.create(nodePools, pool('main'));
  await start(api);
  await api.delete(nodePools, { name: 'main' });
  await waitFor(() => cache.list().length === 0, { timeoutMs });
  cache.put({ ...created, metadata: { ...created.metadata, resourceVersion: '1000' } });
  expect(cache.list()).toEqual([]);
  await api.create(nodePools, pool('main'));
  await waitFor(() => cache.list().length === 1, { timeoutMs });
});

test('what went while the watch was broken is noticed after a new list', async () => {
  const api = new InMemoryKubeApi();
  await api.create(nodePools, pool('goes'));
  await api.create(nodePools, pool('stays'));
  await start(api);
  api.intercept = ({ verb }) => {
    if (verb === 'watch' || verb === 'list') throw new Error('the network is down');
  };
  api.endWatches();
  await api.delete(nodePools, { name: 'goes' });
  api.forgetHistory();
  api.intercept = () => {};
  await waitFor(() => cache.list().length === 1, { timeoutMs });
  expect(cache.get({ name: 'stays' })).toBeDefined();
});
