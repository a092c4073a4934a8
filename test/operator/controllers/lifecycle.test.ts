import { afterEach, expect, test } from 'vitest';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { mirrorYaml, poolYaml, snapshotYaml, volumeYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
afterEach(() => rig.stop());

test('the quickstart becomes a volume, a mirror that is in sync, and a snapshot', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  const name = await rig.agentVolume();

  const primary = rig.cluster.agent('node-a').volume(name);
  expect(primary.spec).toMatchObject({ role: 'primary', epoch: 1, size: 2 ** 30, pool: 'main', onLoss: 'suspend' });
  expect(primary.spec.mirrors).toEqual([{ name: 'data-standby', address: 'node-b.test:7072', mode: 'synchronous' }]);
  const standby = rig.cluster.agent('node-b').volume(name);
  expect(standby.spec).toMatchObject({ role: 'standby', epoch: 1, size: 2 ** 30, uid: primary.spec.uid });
  expect(standby.spec.buffer).toEqual({ pool: 'buffer', capacity: 2 ** 29, maxSnapshots: 32 });

  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'True', 'InSync');
  expect((await rig.volume())?.status).toMatchObject({
    node: 'node-a',
    epoch: 1,
    volume: name,
    copies: [
      { name: 'origin', node: 'node-a', role: 'Primary', state: 'Ready' },
      { name: 'data-standby', node: 'node-b', role: 'Standby', state: 'InSync' },
    ],
  });
  const snapshot = await rig.snapshot();
  expect(snapshot?.status).toMatchObject({
    node: 'node-b',
    copy: 'data-standby',
    snapshot: `snap-${snapshot?.metadata.uid}`,
    takenAt: '2026-01-02T03:04:05.678Z',
    consistency: 'crash',
    bufferBytes: 8192,
  });
  expect([...standby.snapshots.keys()]).toEqual([snapshot?.status?.snapshot]);
});

test('once everything is as it should be, nothing is written or asked any more', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'True');
  await waitFor(async () => (await rig.mirror())?.status?.buffer?.snapshots === 1, { timeoutMs: 5000 });
  const version = async () => (await rig.api.list(primaryVolumes)).resourceVersion;
  const changes = () => [...rig.cluster.agents.values()].map((agent) => agent.changes.length);
  const before = { version: await version(), changes: changes() };

  let looks = 0;
  rig.cluster.agent('node-a').getVolume = new Proxy(rig.cluster.agent('node-a').getVolume, {
    apply: (look, self, [name]) => {
      looks += 1;
      return look.call(self, name);
    },
  });
  await waitFor(() => looks > 5, { timeoutMs: 5000, what: 'five more looks at the primary' });
  expect({ version: await version(), changes: changes() }).toEqual(before);
});

test('for a snapshot without a claim nobody looks at pods', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const asked: string[] = [];
  rig.api.intercept = ({ verb, kind }) => asked.push(`${verb} ${kind}`);
  await rig.apply(`${snapshotYaml('scheduled', 'data-standby')}\n  claim: false`);
  await rig.waitForCondition(snapshots, 'scheduled', 'Ready', 'True');
  let looks = 0;
  rig.cluster.agent('node-b').getSnapshot = new Proxy(rig.cluster.agent('node-b').getSnapshot, {
    apply: (look, self, args: [string, string]) => {
      looks += 1;
      return look.apply(self, args);
    },
  });
  await waitFor(() => looks > 3, { timeoutMs: 5000, what: 'three more looks at the snapshot' });
  expect(asked).toContain('create Event');
  expect(asked).not.toContain('list Pod');
});

test('a restarted operator finds everything as it is', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  const before = await rig.mirror();
  const changes = [...rig.cluster.agents.values()].map((agent) => agent.changes.length);
  await rig.restart();
  await rig.apply(volumeYaml('other', { nodeName: 'node-c' }, ''));
  await rig.apply(poolYaml('node-c', 'main'));
  await rig.waitForCondition(primaryVolumes, 'other', 'Ready', 'True');
  const [a, b] = [...rig.cluster.agents.values()].map((agent) => agent.changes.length);
  expect([a, b]).toEqual(changes.slice(0, 2));
  expect((await rig.mirror())?.status?.conditions?.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual(
    before?.status?.conditions?.map(({ lastTransitionTime }) => lastTransitionTime),
  );
});

test('a volume grows: the standby first, then the primary', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  await rig.api.patch(primaryVolumes, rig.key('data'), { spec: { size: '2Gi' } });
  await waitFor(() => rig.cluster.agent('node-a').volume(name).spec.size === 2 ** 31, { timeoutMs: 5000 });
  expect(rig.cluster.agent('node-b').volume(name).spec.size).toBe(2 ** 31);
  await waitFor(async () => (await rig.volume())?.status?.sizeBytes === 2 ** 31, { timeoutMs: 5000 });
});

test('a volume does not grow while its standby cannot', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  rig.cluster.agent('node-b').fail('putVolume', 'InUse', 'a snapshot of it is being read', 1000);
  await rig.api.patch(primaryVolumes, rig.key('data'), { spec: { size: '2Gi' } });
  await rig.waitForCondition(primaryVolumes, 'data', 'Configured', 'False', 'Resizing');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'Ready', 'False', 'InUse');
  expect(rig.cluster.agent('node-a').volume(name).spec.size).toBe(2 ** 30);
});

test('a standby that is lost is told of, and of its return', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  rig.cluster.agent('node-b').down = true;
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'False', 'Outdated');
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'Suspended');
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'False', 'MirrorNotInSync');
  rig.cluster.agent('node-b').down = false;
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
});

test('onLoss Continue is passed on to the primary', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  await rig.api.patch(standbyMirrors, rig.key('data-standby'), { spec: { onLoss: 'Continue' } });
  await waitFor(() => rig.cluster.agent('node-a').volume(name).spec.onLoss === 'continue', { timeoutMs: 5000 });
});

test('an agent whose answer got lost is asked again, and nothing is done twice', async () => {
  rig = new OperatorRig();
  for (const agent of rig.cluster.agents.values()) {
    agent.loseReplies('putVolume');
    agent.loseReplies('putSnapshot');
  }
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  const name = await rig.agentVolume();
  expect(rig.cluster.agent('node-b').volume(name).snapshots.size).toBe(1);
});

test('the primary is never created a second time when its data is gone', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  const name = await rig.agentVolume();
  rig.cluster.agent('node-a').volumes.delete(name);
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'CopyMissing');
  expect(rig.cluster.agent('node-a').volumes.has(name)).toBe(false);
  expect((await rig.volume())?.status?.copies?.[0]).toMatchObject({ name: 'origin', state: 'Missing' });
});

test('a promotion by hand is followed, not fought', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  const name = await rig.agentVolume();
  const [a, b] = [rig.cluster.agent('node-a'), rig.cluster.agent('node-b')];
  a.down = true;
  await b.prepare(name, 2);
  await b.putVolume(name, { ...b.volume(name).spec, role: 'primary', epoch: 2 });
  const byHand = b.changes.length;
  await waitFor(async () => (await rig.volume())?.status?.node === 'node-b', { timeoutMs: 5000 });
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  a.down = false;
  // Nobody knows what it acknowledged meanwhile.
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'Ready', 'False', 'SplitBrain');
  await rig.waitForCondition(primaryVolumes, 'data', 'SplitBrain', 'True');
  await waitFor(
    async () =>
      (await rig.volume())?.status?.copies?.some((copy) => copy.role === 'Former' && copy.state === 'Outdated'),
    {
      timeoutMs: 5000,
    },
  );
  expect((await rig.volume())?.status).toMatchObject({ node: 'node-b', epoch: 2 });
  expect(a.volume(name).spec).toMatchObject({ role: 'primary', epoch: 1 });
  expect(b.volume(name).spec).toMatchObject({ role: 'primary', epoch: 2 });
  const asked = [...a.changes, ...b.changes.slice(byHand)].flatMap(({ spec }) => spec ?? []);
  expect(asked.filter((spec) => spec.role === 'standby')).toEqual([]);
  expect(b.changes.slice(byHand).filter(({ spec }) => spec !== undefined && spec.epoch < 2)).toEqual([]);
  await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'True');

  await rig.apply(snapshotYaml('afterwards', 'data-standby'));
  await rig.waitForCondition(snapshots, 'afterwards', 'Ready', 'True');
  expect((await rig.snapshot('afterwards'))?.status).toMatchObject({ node: 'node-b', requestedFrom: 'node-b' });
});

test('a snapshot waits for its mirror to be in sync, and says so', async () => {
  rig = new OperatorRig();
  rig.start();
  rig.cluster.linksProgress = false;
  await rig.applyQuickstart('nodepools', 'primary-volume', 'standby-mirror', 'snapshot');
  const condition = await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'False', 'MirrorNotInSync');
  expect(condition.message).toContain('Connecting');
  rig.cluster.linksProgress = true;
  await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'True');
});

test('the snapshot that is one too many is refused by name', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.applyQuickstart('nodepools', 'primary-volume');
  await rig.apply(mirrorYaml('data-standby', 'data', 'node-b', 2));
  for (const name of ['one', 'two']) {
    await rig.apply(snapshotYaml(name, 'data-standby'));
    await rig.waitForCondition(snapshots, name, 'Ready', 'True');
  }
  await rig.apply(snapshotYaml('three', 'data-standby'));
  const condition = await rig.waitForCondition(snapshots, 'three', 'Ready', 'False', 'MaxSnapshotsReached');
  expect(condition.message).toContain('2 snapshots are kept there');
  await rig.api.delete(snapshots, rig.key('one'));
  await rig.waitForCondition(snapshots, 'three', 'Ready', 'True');
});

test('a snapshot of a volume with its own buffer is taken on the primary', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.applyQuickstart('nodepools');
  await rig.apply(volumeYaml('solo', { nodeName: 'node-a' }, '  buffer: { pool: buffer, capacity: 64Mi }\n'));
  await rig.apply(
    `apiVersion: understudy.dev/v1alpha1\nkind: Snapshot\nmetadata: { name: s }\nspec: { source: { volume: solo } }`,
  );
  await rig.waitForCondition(snapshots, 's', 'Ready', 'True');
  expect((await rig.snapshot('s'))?.status).toMatchObject({ node: 'node-a', copy: 'origin' });
});

test('a snapshot whose content was given up for space says so', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  for (const [name, view] of standby.snapshots) {
    standby.snapshots.set(name, { ...view, state: 'Invalid', valid: false, reason: 'the buffer was full' });
  }
  const condition = await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'False', 'Invalidated');
  expect(condition.message).toBe('the buffer was full');
});

test('a snapshot goes when its retention is over', async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  await rig.apply(`${snapshotYaml('old', 'data-standby')}\n  retention: { deleteAfter: 1s }`);
  // Simulated snapshots are from the past.
  await rig.waitForGone(snapshots, 'old');
  expect(rig.cluster.agent('node-b').volume(await rig.agentVolume()).snapshots.size).toBe(0);
});
