import { afterEach, describe, expect, test } from 'vitest';
import { namespaces } from '../../../operator/resources/core-kinds.ts';
import { abandonAnnotation } from '../../../operator/resources/group.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import type { CustomResource } from '../../../operator/resources/resource.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { poolYaml, snapshotYaml, volumeYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
afterEach(() => rig.stop());

const names = { volume: 'data', mirror: 'data-standby', snapshot: 'data-before-upgrade' } as const;
type Part = keyof typeof names;

async function remove(part: Part): Promise<void> {
  if (part === 'volume') await rig.api.delete(primaryVolumes, rig.key(names.volume));
  if (part === 'mirror') await rig.api.delete(standbyMirrors, rig.key(names.mirror));
  if (part === 'snapshot') await rig.api.delete(snapshots, rig.key(names.snapshot));
}

async function everythingIsGone(): Promise<void> {
  await rig.waitForGone(snapshots, names.snapshot);
  await rig.waitForGone(standbyMirrors, names.mirror);
  await rig.waitForGone(primaryVolumes, names.volume);
  for (const agent of rig.cluster.agents.values()) expect([...agent.volumes.keys()]).toEqual([]);
}

async function abandon<Spec, Status>(resource: CustomResource<Spec, Status>, name: string): Promise<void> {
  await rig.api.patch(resource, rig.key(name), { metadata: { annotations: { [abandonAnnotation]: 'true' } } });
}

describe('in any order, everything goes', () => {
  const orders: readonly (readonly Part[])[] = [
    ['snapshot', 'mirror', 'volume'],
    ['snapshot', 'volume', 'mirror'],
    ['mirror', 'snapshot', 'volume'],
    ['mirror', 'volume', 'snapshot'],
    ['volume', 'snapshot', 'mirror'],
    ['volume', 'mirror', 'snapshot'],
  ];

  test.each(orders)('%s, %s, %s, all at once', async (...order) => {
    rig = new OperatorRig();
    rig.start();
    await rig.mirroredVolumeWithSnapshot();
    for (const part of order) await remove(part);
    await everythingIsGone();
  });
});

test('a volume waits for its dependents, and names them', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  await remove('volume');
  const blocked = await rig.waitForCondition(primaryVolumes, 'data', 'DeletionBlocked', 'True', 'WaitingForDependents');
  expect(blocked.message).toContain('StandbyMirror data-standby, Snapshot data-before-upgrade');
  const name = await rig.agentVolume();
  expect(rig.cluster.agent('node-a').volumes.has(name)).toBe(true);
  await remove('mirror');
  const mirror = await rig.waitForCondition(
    standbyMirrors,
    'data-standby',
    'DeletionBlocked',
    'True',
    'WaitingForDependents',
  );
  expect(mirror.message).toContain('data-before-upgrade');
  expect(rig.cluster.agent('node-b').volumes.has(name)).toBe(true);
  await remove('snapshot');
  await everythingIsGone();
});

test('the primary is told that a mirror goes before its standby is removed', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  const [a, b] = [rig.cluster.agent('node-a'), rig.cluster.agent('node-b')];
  let linksAtRemoval: number | undefined;
  const removeVolume = b.deleteVolume.bind(b);
  b.deleteVolume = async (volume) => {
    linksAtRemoval = a.volume(name).spec.mirrors.length;
    await removeVolume(volume);
  };
  await remove('mirror');
  await rig.waitForGone(standbyMirrors, 'data-standby');
  expect(linksAtRemoval).toBe(0);
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  await waitFor(async () => (await rig.volume())?.status?.copies?.length === 1, { timeoutMs: 5000 });
});

test('deleting the namespace deletes everything in it', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  await rig.api.delete(namespaces, { name: 'shop' });
  await everythingIsGone();
  await waitFor(async () => (await rig.api.get(namespaces, { name: 'shop' })) === undefined, { timeoutMs: 5000 });
});

test('objects that nothing was created for yet go at once', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.applyQuickstart('primary-volume', 'standby-mirror', 'snapshot');
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'PoolNotFound');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'Ready', 'False', 'VolumeNotReady');
  await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'False', 'SourceNotReady');
  for (const part of ['volume', 'mirror', 'snapshot'] as const) await remove(part);
  await everythingIsGone();
});

test('a volume that is deleted in the middle of its creation leaves nothing behind', async () => {
  rig = new OperatorRig();
  rig.cluster.agent('node-a').loseReplies('putVolume', 1000);
  rig.start();
  await rig.applyQuickstart('nodepools', 'primary-volume');
  await waitFor(() => rig.cluster.agent('node-a').volumes.size === 1, { timeoutMs: 5000 });
  await remove('volume');
  await everythingIsGone();
});

test('a snapshot that waits for its barrier stays until it cannot be made any more', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  rig.cluster.busy = true;
  await rig.apply(`${snapshotYaml('waits', 'data-standby')}\n  consistency: { lull: {} }`);
  await rig.waitForCondition(snapshots, 'waits', 'Ready', 'False', 'Waiting');
  await rig.api.delete(snapshots, rig.key('waits'));
  await rig.waitForCondition(snapshots, 'waits', 'DeletionBlocked', 'True', 'Waiting');
  const name = await rig.agentVolume();
  rig.cluster.agent('node-a').releaseLull(name);
  await rig.waitForGone(snapshots, 'waits');
  expect(rig.cluster.agent('node-b').volume(name).snapshots.size).toBe(0);
});

describe('an agent that does not answer', () => {
  test('holds up the deletion of its mirror, which says why, until it is back', async () => {
    rig = new OperatorRig();
    rig.start();
    await rig.mirroredVolume();
    rig.cluster.agent('node-b').down = true;
    await remove('mirror');
    const blocked = await rig.waitForCondition(
      standbyMirrors,
      'data-standby',
      'DeletionBlocked',
      'True',
      'AgentUnreachable',
    );
    expect(blocked.message).toContain('its copy on node node-b has to be removed');
    // The primary does not wait for a standby that is not wanted any more.
    await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
    rig.cluster.agent('node-b').down = false;
    await rig.waitForGone(standbyMirrors, 'data-standby');
    expect(rig.cluster.agent('node-b').volumes.size).toBe(0);
  });

  test('does not hold up what was abandoned, and the primary forgets the mirror when it is back', async () => {
    rig = new OperatorRig();
    rig.start();
    await rig.mirroredVolume();
    const name = await rig.agentVolume();
    const a = rig.cluster.agent('node-a');
    a.down = true;
    await remove('mirror');
    const blocked = await rig.waitForCondition(
      standbyMirrors,
      'data-standby',
      'DeletionBlocked',
      'True',
      'AgentUnreachable',
    );
    expect(blocked.message).toContain(`${abandonAnnotation}=true`);
    await abandon(standbyMirrors, 'data-standby');
    await rig.waitForGone(standbyMirrors, 'data-standby');
    expect(rig.cluster.agent('node-b').volumes.has(name)).toBe(false);
    a.down = false;
    await waitFor(() => a.volume(name).spec.mirrors.length === 0, { timeoutMs: 5000, what: 'the end of the link' });
    await waitFor(async () => (await rig.volume())?.status?.copies?.length === 1, { timeoutMs: 5000 });
  });

  test('is no obstacle for a whole volume whose node is gone for good', async () => {
    rig = new OperatorRig();
    rig.start();
    await rig.mirroredVolumeWithSnapshot();
    await rig.restart(['node-a']);
    for (const part of ['volume', 'mirror', 'snapshot'] as const) await remove(part);
    await rig.waitForCondition(snapshots, 'data-before-upgrade', 'DeletionBlocked', 'True', 'AgentUnreachable');
    await abandon(snapshots, 'data-before-upgrade');
    await rig.waitForGone(snapshots, 'data-before-upgrade');
    await rig.waitForCondition(standbyMirrors, 'data-standby', 'DeletionBlocked', 'True', 'NoAgent');
    await abandon(standbyMirrors, 'data-standby');
    await rig.waitForGone(standbyMirrors, 'data-standby');
    await rig.waitForGone(primaryVolumes, 'data');
    expect(rig.cluster.agent('node-a').volumes.size).toBe(0);
  });
});

test('a copy that is in use is not removed, and the object says by whom', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  const primary = rig.cluster.agent('node-a').volume(name);
  primary.attached = true;
  await remove('mirror');
  await remove('volume');
  const blocked = await rig.waitForCondition(primaryVolumes, 'data', 'DeletionBlocked', 'True', 'InUse');
  expect(blocked.message).toContain('clients of its export');
  primary.attached = false;
  await rig.waitForGone(primaryVolumes, 'data');
});

test('retained data stays at the agent', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.apply(poolYaml('node-a', 'main'));
  await rig.apply(volumeYaml('kept', { nodeName: 'node-a' }, '  reclaimPolicy: Retain\n'));
  await rig.waitForCondition(primaryVolumes, 'kept', 'Ready', 'True');
  await rig.api.delete(primaryVolumes, rig.key('kept'));
  await rig.waitForGone(primaryVolumes, 'kept');
  expect(rig.cluster.agent('node-a').volumes.size).toBe(1);
});

test('deleting the mirror of a promoted copy leaves the data: it is the primary now', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  const b = rig.cluster.agent('node-b');
  await b.prepare(name, 2);
  await b.putVolume(name, { ...b.volume(name).spec, role: 'primary', epoch: 2 });
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'Ready', 'False', 'SplitBrain');
  await remove('mirror');
  await rig.waitForGone(standbyMirrors, 'data-standby');
  expect(b.volumes.has(name)).toBe(true);
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  await remove('volume');
  await rig.waitForGone(primaryVolumes, 'data');
  for (const agent of rig.cluster.agents.values()) expect(agent.volumes.size).toBe(0);
});
