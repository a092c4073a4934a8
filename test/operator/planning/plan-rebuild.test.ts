import { beforeEach, describe, expect, test } from 'vitest';
import { promoteAnnotation, rebuildAnnotation } from '../../../operator/resources/group.ts';
import type { Snapshot } from '../../../operator/resources/snapshot.ts';
import { PlannedWorld } from '../../support/planned-world.ts';

let world: PlannedWorld;
const anywhere = { nodeSelector: { 'kubernetes.io/os': 'linux' } };
const buffer = { pool: 'buffer', capacity: '64Mi' };

async function mirrored(spec: object = {}): Promise<void> {
  world.createVolume({ buffer });
  world.createMirror('standby', { ...anywhere, buffer, ...spec });
  await world.settle();
  expect(placeOf('standby')).toBe('node-b');
}

beforeEach(() => {
  world = new PlannedWorld();
  world.useArbiter();
});

const agent = (node: string) => world.cluster.agent(node);
const copy = (node: string) => agent(node).volumes.get(world.agentVolume);
const status = () => world.volume?.status;
const placeOf = (mirror: string) => world.mirrors.get(mirror)?.status?.node;
const nodesOf = () => status()?.copies?.map(({ name, node }) => `${name} ${node}`);
const stale = () => status()?.staleCopies?.map(({ name, node }) => `${name} ${node}`);

async function later(minutes: number): Promise<void> {
  world.pass(minutes * 60);
  await world.settle();
}

async function lose(node: string): Promise<void> {
  agent(node).down = true;
  await world.settle();
}

describe('a standby whose node is lost', () => {
  test('is waited for, then built again on another node of the selector', async () => {
    await mirrored();
    await lose('node-b');
    expect(world.condition('StandbyReachable', 'standby')).toBe('False AgentUnreachable');
    expect(world.condition('Rebuild', 'standby')).toBe('False WaitingForDelay');
    await later(29);
    expect(placeOf('standby')).toBe('node-b');
    await later(2);
    expect(placeOf('standby')).toBe('node-c');
    expect(nodesOf()).toEqual(['origin node-a', 'standby node-c']);
    expect(stale()).toEqual(['standby node-b']);
    expect(status()?.arbiter?.copies).toEqual([{ name: 'standby', state: 'InSync', epoch: 1 }]);
    expect(world.condition('InSync', 'standby')).toBe('True InSync');
    expect(world.condition('Rebuild', 'standby')).toBeUndefined();
    expect(world.condition('StaleCopy')).toBe('True NodeAway');
    expect(copy('node-a')?.spec.mirrors.map(({ address }) => address)).toEqual([agent('node-c').mirrorAddress]);
    expect(copy('node-c')?.spec.peers).toEqual(['node-a', 'node-c']);
  });

  test('that comes back in time stays where it is', async () => {
    await mirrored();
    await lose('node-b');
    await later(20);
    agent('node-b').down = false;
    await later(1);
    expect(world.condition('StandbyReachable', 'standby')).toBeUndefined();
    await lose('node-b');
    await later(20);
    expect(placeOf('standby')).toBe('node-b');
  });

  test('has its old copy deleted when that comes back, and not before the new one is in sync', async () => {
    await mirrored({ rebuild: { after: '1m' } });
    await lose('node-b');
    world.cluster.linksProgress = false;
    await later(2);
    agent('node-b').down = false;
    await later(1);
    expect(world.condition('StaleCopy')).toBe('True WaitingForSync');
    expect(copy('node-b')).toBeDefined();
    world.cluster.linksProgress = true;
    await world.settle();
    expect(copy('node-b')).toBeUndefined();
    expect(stale()).toBeUndefined();
    expect(world.condition('StaleCopy')).toBeUndefined();
    expect(placeOf('standby')).toBe('node-c');
  });

  test('has no old copy deleted that a Snapshot has its content in', async () => {
    await mirrored({ rebuild: { after: '1m' } });
    const where = { node: 'node-b', volume: world.agentVolume, copy: 'standby', snapshot: 'snap-1' };
    world.snapshots.push({ metadata: { name: 's', namespace: 'shop' }, status: where } as unknown as Snapshot);
    await lose('node-b');
    await later(2);
    agent('node-b').down = false;
    await world.settle();
    expect(world.condition('StaleCopy')).toBe('True HoldsSnapshots');
    expect(world.message('StaleCopy')).toContain('s');
    world.snapshots.pop();
    await world.settle();
    expect(copy('node-b')).toBeUndefined();
  });

  test.each([
    ['a nodeName pins it', { nodeSelector: undefined, nodeName: 'node-b' }, async () => {}, undefined],
    ['it is to be told', { rebuild: { policy: 'Manual' } }, async () => {}, 'False Manual'],
    ['no other node fits', {}, async () => world.addPool('node-c', 'main', { capacity: '1Mi' }), 'False NoFittingNode'],
    ['the other node is cordoned', {}, async () => cordon('node-c'), 'False NoFittingNode'],
    ['the primary is lost as well', {}, () => lose('node-a'), 'False PrimaryLost'],
    ['the node of the primary is not ready', {}, async () => unready('node-a'), 'False PrimaryLost'],
    [
      'another primary has been ordered',
      {},
      async () => world.annotate({ [promoteAnnotation]: 'node-b' }),
      'False PromotionInProgress',
    ],
    ['writes wait for it', { onLoss: 'Suspend' }, async () => {}, 'False PrimaryWaits'],
    ['the record has it in sync', {}, async () => claimInSync(), 'False StillNeeded'],
  ])('stays where it is if %s', async (_, spec, trouble, finding) => {
    await mirrored(spec);
    await lose('node-b');
    await trouble();
    await later(60);
    await later(60);
    expect(nodesOf()).toEqual(['origin node-a', 'standby node-b']);
    expect(stale()).toBeUndefined();
    expect(world.condition('Rebuild', 'standby')).toBe(finding);
  });

  test('is there while its primary has a link to it: only the operator does not reach it', async () => {
    await mirrored();
    agent('node-b').fail('getVolume', 'Unavailable', 'no route to host', 1000);
    await later(60);
    await later(60);
    expect(world.condition('StandbyReachable', 'standby')).toBeUndefined();
    expect(placeOf('standby')).toBe('node-b');
  });

  test('is built again at once when its node is named', async () => {
    await mirrored({ rebuild: { policy: 'Manual' } });
    order('node-b');
    await world.settle();
    expect(world.condition('Rebuild', 'standby')).toBe('False StandbyThere');
    await lose('node-b');
    expect(placeOf('standby')).toBe('node-c');
    expect(world.mirrors.get('standby')?.metadata.annotations).toEqual({});
  });

  test('whose agent is gone with its node is released with its volume', async () => {
    await mirrored({ rebuild: { after: '1m' } });
    world.known = ['node-a', 'node-c'];
    agent('node-b').down = true;
    await world.settle();
    expect(world.condition('StandbyReachable', 'standby')).toBe('False NoAgent');
    await later(2);
    expect(placeOf('standby')).toBe('node-c');
    world.deleteMirror('standby');
    await world.settle();
    world.deleteVolume();
    await world.settle();
    expect(world.volume).toBeUndefined();
  });

  test('that is given up while its mirror is deleted leaves no link behind', async () => {
    await mirrored({ rebuild: { after: '1m' } });
    await lose('node-b');
    world.pass(120);
    while (stale() === undefined) await world.step();
    world.deleteMirror('standby');
    agent('node-a').fail('putVolume', 'Unavailable', 'no route to host', 3);
    await world.settle();
    expect(world.mirrors.size).toBe(0);
    expect(copy('node-a')?.spec.mirrors).toEqual([]);
  });

  test('is never promoted again: not with a look at the mirror of before it was given up', async () => {
    await mirrored({ rebuild: { after: '1m' }, failover: { policy: 'Automatic', after: '10s' } });
    const before = world.mirrors.get('standby');
    await lose('node-b');
    await later(2);
    world.snapshots.push({
      metadata: { name: 's', namespace: 'shop' },
      status: { node: 'node-b', volume: world.agentVolume, copy: 'standby', snapshot: 'snap-1' },
    } as unknown as Snapshot);
    agent('node-b').down = false;
    await world.settle();
    agent('node-a').down = true;
    agent('node-c').down = true;
    if (before) world.mirrors.set('standby', before);
    await world.reconcile();
    await later(60);
    world.annotate({ [promoteAnnotation]: 'node-b' });
    await later(60);
    expect(copy('node-b')?.prepared).toBeUndefined();
    expect(status()?.arbiter).toMatchObject({ epoch: 1, node: 'node-a' });
  });
});

describe('a standby that is fed by another one', () => {
  beforeEach(async () => {
    world = new PlannedWorld(['node-a', 'node-b', 'node-c', 'node-d', 'node-e']);
    world.useArbiter();
    await mirrored({ nodeSelector: undefined, nodeName: 'node-b' });
    world.createMirror('archive', {
      ...anywhere,
      mode: 'Asynchronous',
      mirrorRef: { name: 'standby' },
      rebuild: { after: '1m' },
    });
    await world.settle();
    expect(placeOf('archive')).toBe('node-c');
  });

  const fedByB = () => copy('node-b')?.spec.mirrors.map(({ name, address }) => `${name} ${address}`);

  test('is built again elsewhere, behind the same one, when its node is lost', async () => {
    await lose('node-c');
    await later(2);
    expect(placeOf('archive')).toBe('node-d');
    expect(fedByB()).toEqual([`archive ${agent('node-d').mirrorAddress}`]);
    expect(copy('node-a')?.spec.mirrors.map(({ name }) => name)).toEqual(['standby']);
    expect(copy('node-d')?.spec).toMatchObject({ role: 'standby', epoch: 1 });
    expect(stale()).toEqual(['archive node-c']);
    agent('node-c').down = false;
    await world.settle();
    expect(copy('node-c')).toBeUndefined();
    expect(stale()).toBeUndefined();
    expect(nodesOf()).toContain('archive node-d');
  });

  test('waits for the one that feeds it, if that is lost too', async () => {
    await lose('node-b');
    await lose('node-c');
    await later(60);
    expect(world.condition('Rebuild', 'archive')).toBe('False FeederLost');
    expect(placeOf('archive')).toBe('node-c');
    agent('node-b').down = false;
    await later(2);
    expect(placeOf('archive')).toBe('node-d');
  });
});

test('a mirror whose copy is the primary has no standby to be lost, or to be built again', async () => {
  await mirrored({ rebuild: { after: '1m' } });
  world.annotate({ [promoteAnnotation]: 'node-b' });
  await world.settle();
  expect(status()).toMatchObject({ node: 'node-b', epoch: 2 });
  order('node-b');
  await world.settle();
  expect(world.condition('Rebuild', 'standby')).toBeUndefined();
  agent('node-b').down = true;
  await later(60);
  expect(world.condition('StandbyReachable', 'standby')).toBeUndefined();
  expect(world.condition('Rebuild', 'standby')).toBeUndefined();
});

test('a former primary that has come back is no standby that an order could wait for', async () => {
  await mirrored({ rebuild: { after: '1m' } });
  world.annotate({ [promoteAnnotation]: 'node-b' });
  await world.settle();
  agent('node-b').down = true;
  world.annotate({ [promoteAnnotation]: 'node-a', 'understudy.dev/accept-loss': 'node-b/2' });
  const origin = copy('node-a');
  if (origin) origin.clean = false;
  await world.settle();
  expect(status()).toMatchObject({ node: 'node-a', epoch: 3 });
  agent('node-b').down = false;
  order('node-b');
  await world.settle();
  expect(world.condition('SplitBrain')).toBe('True MayHaveDiverged');
  expect(world.condition('Rebuild', 'standby')).toBeUndefined();
});

test('one after the other gets another node, never two at a time', async () => {
  world = new PlannedWorld(['node-a', 'node-b', 'node-c', 'node-d', 'node-e']);
  world.useArbiter();
  world.createVolume();
  world.createMirror('one', { nodeSelector: anywhere.nodeSelector, rebuild: { after: '1m' } });
  await world.settle();
  world.createMirror('two', { nodeSelector: anywhere.nodeSelector, rebuild: { after: '1m' } });
  await world.settle();
  await lose(placeOf('one') ?? '');
  await lose(placeOf('two') ?? '');
  await later(2);
  expect([placeOf('one'), placeOf('two')].sort()).toEqual(['node-d', 'node-e']);
});

test('each single step can be the last that an operator makes', async () => {
  await mirrored({ rebuild: { after: '1m' } });
  await lose('node-b');
  world.pass(120);
  for (let step = 0; step < 40; step += 1) {
    world.outcomes = new Map();
    await world.step();
    const linked = copy('node-a')?.spec.mirrors.map(({ address }) => address) ?? [];
    // While it is no copy of the volume any more, nobody is linked to it beyond the next order.
    if (placeOf('standby') === 'node-c') expect(linked).not.toContain(agent('node-b').mirrorAddress);
  }
  await world.settle();
  expect(placeOf('standby')).toBe('node-c');
  expect(world.condition('InSync', 'standby')).toBe('True InSync');
});

describe('the node of a former primary', () => {
  const failover = { policy: 'Automatic', after: '10s' };

  async function takenOver(): Promise<void> {
    await mirrored({ failover, rebuild: { after: '5m' } });
    await lose('node-a');
    await later(1);
    expect(status()).toMatchObject({ node: 'node-b', epoch: 2 });
  }

  test('is replaced by another one, so that the volume is protected again', async () => {
    await takenOver();
    expect(world.condition('Rebuild', 'standby')).toBe('False WaitingForDelay');
    await later(6);
    expect(nodesOf()).toEqual(['standby node-b', 'origin node-c']);
    expect(stale()).toEqual(['origin node-a']);
    expect(placeOf('standby')).toBe('node-b');
    expect(world.condition('Ready', 'standby')).toBe('True Reversed');
    expect(world.condition('Protected')).toBe('True InSync');

    agent('node-a').down = false;
    await world.settle();
    expect(copy('node-a')).toBeUndefined();
    expect(stale()).toBeUndefined();
    expect(status()).toMatchObject({ node: 'node-b', epoch: 2 });
  });

  test('is not given up while it may have acknowledged what nobody else has', async () => {
    await mirrored({ failover: { policy: 'Manual' }, rebuild: { after: '5m' } });
    Object.assign(copy('node-b') ?? {}, { clean: false });
    await lose('node-a');
    world.annotate({ [promoteAnnotation]: 'node-b', 'understudy.dev/accept-loss': 'node-a/1' });
    await world.settle();
    expect(status()).toMatchObject({ node: 'node-b', epoch: 2 });
    await later(60);
    expect(world.condition('Rebuild', 'standby')).toBe('False MayHaveDiverged');
    expect(stale()).toBeUndefined();
  });

  test('can be promoted back to, on the new node', async () => {
    await takenOver();
    await later(6);
    await lose('node-b');
    await later(1);
    expect(status()).toMatchObject({ node: 'node-c', epoch: 3 });
    expect(status()?.arbiter).toMatchObject({ copy: 'origin', divergent: [] });
  });
});

function order(node: string): void {
  const mirror = world.mirrors.get('standby');
  if (!mirror) throw new Error('there is no mirror');
  const metadata = { ...mirror.metadata, annotations: { [rebuildAnnotation]: node } };
  world.mirrors.set('standby', { ...mirror, metadata });
}

function cordon(name: string): void {
  world.nodes.push({ apiVersion: 'v1', kind: 'Node', metadata: meta(name), spec: { unschedulable: true } });
}

function unready(name: string): void {
  const conditions = [{ type: 'Ready', status: 'Unknown' }];
  world.nodes.push({ apiVersion: 'v1', kind: 'Node', metadata: meta(name), status: { conditions } });
}

const meta = (name: string) => ({ name, uid: name, resourceVersion: '1' });

function claimInSync(): void {
  const { volume } = world;
  const arbiter = status()?.arbiter;
  if (!volume || !arbiter) throw new Error('there is no record');
  const copies = [{ name: 'standby', state: 'InSync' as const, epoch: 1 }];
  world.volume = { ...volume, status: { ...volume.status, arbiter: { ...arbiter, copies } } };
}
