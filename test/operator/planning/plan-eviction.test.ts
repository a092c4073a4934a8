import { beforeEach, expect, test } from 'vitest';
import { podsToEvict } from '../../../operator/planning/plan-eviction.ts';
import type { Node, Pod } from '../../../operator/resources/core-kinds.ts';
import { promoteAnnotation } from '../../../operator/resources/group.ts';
import { PlannedWorld } from '../../support/planned-world.ts';

let world: PlannedWorld;

beforeEach(() => {
  world = new PlannedWorld();
  world.useArbiter();
});

async function mirrored(evictPods = true): Promise<void> {
  world.createVolume();
  world.createMirror('standby', { nodeName: 'node-b', failover: { policy: 'Automatic', after: '30s', evictPods } });
  await world.settle();
}

const eviction = async () => (await world.plan()).eviction;

test('pods are looked for at no step before the new primary is one, and from then on until the old one has returned', async () => {
  await mirrored();
  world.cluster.agent('node-a').down = true;
  await world.reconcile();
  world.pass(31);
  world.outcomes = new Map();
  const isPrimary = () => world.cluster.agent('node-b').volume(world.agentVolume).spec.role === 'primary';
  for (let steps = 0; !isPrimary(); steps += 1) {
    expect(steps).toBeLessThan(20);
    expect(await eviction()).toBeUndefined();
    await world.step();
  }
  await world.settle();
  expect(await eviction()).toEqual({ namespace: 'shop', claim: 'data', nodes: ['node-a'] });
  world.cluster.agent('node-a').down = false;
  await world.settle();
  expect(await eviction()).toBeUndefined();
});

test('on the way back as well', async () => {
  await mirrored();
  world.annotate({ [promoteAnnotation]: 'node-b' });
  await world.settle();
  world.cluster.agent('node-b').down = true;
  await world.reconcile();
  world.pass(31);
  await world.settle();
  expect(world.volume?.status).toMatchObject({ node: 'node-a', epoch: 3 });
  expect((await eviction())?.nodes).toEqual(['node-b']);
});

test('not unless the mirror asks for it', async () => {
  await mirrored(false);
  world.cluster.agent('node-a').down = true;
  await world.reconcile();
  world.pass(31);
  await world.settle();
  expect(world.volume?.status?.node).toBe('node-b');
  expect(await eviction()).toBeUndefined();
});

test('not while nobody knows which copy is the primary', async () => {
  await mirrored();
  for (const node of ['node-a', 'node-b']) world.cluster.agent(node).down = true;
  await world.reconcile();
  world.pass(3600);
  await world.settle();
  expect(await eviction()).toBeUndefined();
});

const nowMs = Date.parse('2026-01-01T00:10:00Z');

function pod(
  name: string,
  node: string | undefined,
  more: { claim?: string; phase?: string; deletedAt?: string } = {},
): Pod {
  const { claim = 'data', phase = 'Running', deletedAt } = more;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      uid: name,
      resourceVersion: '1',
      ...(deletedAt && { deletionTimestamp: deletedAt }),
    },
    spec: {
      ...(node === undefined ? {} : { nodeName: node }),
      volumes: [{ name: 'v', persistentVolumeClaim: { claimName: claim } }],
    },
    status: { phase },
  };
}

function node(name: string, ready: 'True' | 'Unknown'): Node {
  const metadata = { name, uid: name, resourceVersion: '1' };
  return { apiVersion: 'v1', kind: 'Node', metadata, status: { conditions: [{ type: 'Ready', status: ready }] } };
}

test.each([
  ['on a node that is not ready, by force', pod('p', 'node-a'), true],
  ['on a node without an object, by force', pod('p', 'node-c'), true],
  ['on a node that works, with its grace period', pod('p', 'node-b'), false],
  [
    'that is ending on a node that is not ready, by force',
    pod('p', 'node-a', { deletedAt: '2026-01-01T00:10:20Z' }),
    true,
  ],
  [
    'that is ending on a node that works, not again',
    pod('p', 'node-b', { deletedAt: '2026-01-01T00:09:50Z' }),
    undefined,
  ],
  ['that hangs on a node that works, by force', pod('p', 'node-b', { deletedAt: '2026-01-01T00:09:00Z' }), true],
  ['of another claim, not at all', pod('p', 'node-a', { claim: 'other' }), undefined],
  ['that has ended, not at all', pod('p', 'node-a', { phase: 'Succeeded' }), undefined],
  ['that has no node yet, not at all', pod('p', undefined), undefined],
  ['on another node, not at all', pod('p', 'node-d'), undefined],
])('a pod %s', (_, found, force) => {
  const wanted = { namespace: 'shop', claim: 'data', nodes: ['node-a', 'node-b', 'node-c'] };
  const known = [node('node-a', 'Unknown'), node('node-b', 'True'), node('node-d', 'Unknown')];
  const evicted = podsToEvict(wanted, [found], known, nowMs);
  expect(evicted).toEqual(force === undefined ? [] : [{ pod: found, force }]);
});
