import { afterEach, beforeEach, expect, test } from 'vitest';
import { nodes } from '../../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { snapshotYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';

let rig: OperatorRig;

const mirrorAnywhere = `apiVersion: understudy.dev/v1alpha1
kind: StandbyMirror
metadata: { name: data-standby }
spec:
  primaryVolumeRef: { name: data }
  nodeSelector: { kubernetes.io/os: linux }
  buffer: { pool: buffer, capacity: 64Mi }
  rebuild: { after: 1s }`;

/** A mirror in sync with two snapshots on node-b; then that node is taken away, with its agent, for good. */
beforeEach(async () => {
  rig = new OperatorRig();
  rig.useArbiter();
  await rig.addNodes('node-a', 'node-b', 'node-c');
  rig.start();
  await rig.applyQuickstart('nodepools', 'primary-volume');
  await rig.apply(['node-c-main', 'node-c-buffer'].map(poolOfNodeC).join('\n---\n'));
  await rig.apply(mirrorAnywhere);
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  for (const name of ['one', 'two']) {
    await rig.apply(snapshotYaml(name, 'data-standby'));
    await rig.waitForCondition(snapshots, name, 'Ready', 'True');
  }
  expect((await rig.mirror())?.status?.node).toBe('node-b');
  rig.cluster.agent('node-b').down = true;
  await rig.api.delete(nodes, { name: 'node-b' });
  await rig.restart(['node-a', 'node-c']);
  await rig.waitForCondition(primaryVolumes, 'data', 'StaleCopy', 'True', 'NodeAway');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
});
afterEach(() => rig.stop());

function poolOfNodeC(name: string): string {
  const pool = name.replace('node-c-', '');
  const purpose = pool === 'buffer' ? 'buffer' : 'volumes';
  return `apiVersion: understudy.dev/v1alpha1
kind: NodePool
metadata: { name: ${name} }
spec: { node: node-c, name: ${pool}, directory: /srv/${pool}, purpose: ${purpose} }`;
}

test('a standby on a node that is gone is built again elsewhere, and its snapshots say that they are lost', async () => {
  expect((await rig.mirror())?.status?.node).toBe('node-c');
  const lost = await rig.waitForCondition(snapshots, 'one', 'Ready', 'False', 'LostWithNode');
  expect(lost.message).toContain('node-b');
  await rig.apply(snapshotYaml('three', 'data-standby'));
  await rig.waitForCondition(snapshots, 'three', 'Ready', 'True');
  expect((await rig.snapshot('three'))?.status?.node).toBe('node-c');
});

test('its snapshots can be deleted without the node, and everything else too', async () => {
  for (const name of ['one', 'two']) {
    await rig.waitForCondition(snapshots, name, 'Ready', 'False', 'LostWithNode');
    await rig.api.delete(snapshots, rig.key(name));
    await rig.waitForGone(snapshots, name);
  }
  await rig.api.delete(standbyMirrors, rig.key('data-standby'));
  await rig.api.delete(primaryVolumes, rig.key('data'));
  await rig.waitForGone(primaryVolumes, 'data');
  for (const node of ['node-a', 'node-c']) expect([...rig.cluster.agent(node).volumes.keys()]).toEqual([]);
});

test('a node that comes back keeps what Snapshots have there, until they are deleted; then its copy goes', async () => {
  const name = await rig.agentVolume();
  await rig.waitForCondition(snapshots, 'one', 'Ready', 'False', 'LostWithNode');
  rig.cluster.agent('node-b').down = false;
  await rig.restart();
  await rig.waitForCondition(snapshots, 'one', 'Ready', 'True');
  await rig.waitForCondition(primaryVolumes, 'data', 'StaleCopy', 'True', 'HoldsSnapshots');
  for (const each of ['one', 'two']) {
    await rig.api.delete(snapshots, rig.key(each));
    await rig.waitForGone(snapshots, each);
  }
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'True');
  await expect.poll(() => rig.cluster.agent('node-b').volumes.has(name), { timeout: 10_000 }).toBe(false);
  await expect.poll(async () => (await rig.volume())?.status?.staleCopies, { timeout: 10_000 }).toBeUndefined();
  expect((await rig.mirror())?.status?.node).toBe('node-c');
});
