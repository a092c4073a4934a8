import { afterEach, beforeEach, expect, test } from 'vitest';
import { abandonAnnotation } from '../../../operator/resources/group.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../../operator/resources/snapshot-restore.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

const timeoutMs = 20_000;

let rig: OperatorRig;
beforeEach(async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
});
afterEach(() => rig.stop());

function restoreYaml(more = ''): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: SnapshotRestore
metadata: { name: copy }
spec:
  snapshot: data-before-upgrade
  newVolume: { name: data-copy, nodeName: node-a${more} }`;
}

const restore = () => rig.api.get(snapshotRestores, rig.key('copy'));
const target = () => rig.api.get(primaryVolumes, rig.key('data-copy'));
const says = (status: 'True' | 'False' | 'Unknown', reason: string) =>
  rig.waitForCondition(snapshotRestores, 'copy', 'Ready', status, reason);

/** The new volume at its agent. */
async function filled() {
  return rig.cluster.agent('node-a').volume(`pv-${(await target())?.metadata.uid}`);
}

async function agentSays(change: object): Promise<void> {
  const volume = await filled();
  if (volume.filling === undefined) throw new Error('it was not made from a snapshot');
  volume.filling = { ...volume.filling, ...change };
}

async function held(): Promise<string[]> {
  return [
    ...rig.cluster
      .agent('node-b')
      .volume(await rig.agentVolume())
      .holds.keys(),
  ];
}

function created(): number {
  const { changes } = rig.cluster.agent('node-a');
  return changes.filter(({ call, spec }) => call === 'putVolume' && spec?.source !== undefined).length;
}

test('the volume is made with the content of the snapshot, which is kept until it has all of it', async () => {
  await rig.apply(restoreYaml(', size: 2Gi'));
  await says('False', 'Filling');
  const snapshot = await rig.snapshot();
  const uid = (await rig.api.get(primaryVolumes, rig.key('data')))?.metadata.uid;
  const source = { volume: await rig.agentVolume(), uid, snapshot: snapshot?.status?.snapshot, node: 'node-b' };
  expect((await filled()).spec).toMatchObject({ size: 2 ** 31, source: { ...source, address: 'node-b.test:7072' } });
  expect(await held()).toEqual([`pv-${(await target())?.metadata.uid}`]);
  await rig.waitForCondition(primaryVolumes, 'data-copy', 'Ready', 'True');
  await rig.waitForCondition(primaryVolumes, 'data-copy', 'Filled', 'False', 'Filling');

  await agentSays({ filledBytes: 2 ** 30 });
  await waitFor(async () => (await restore())?.status?.progress?.percent === 50, { timeoutMs });
  await rig.restart();
  await agentSays({ lastError: 'the snapshot is lost', lost: true });
  expect((await says('False', 'SourceLost')).message).toMatch(/the snapshot is lost/);
  await rig.waitForCondition(primaryVolumes, 'data-copy', 'Filled', 'False', 'SourceLost');
  await agentSays({ lastError: undefined, lost: undefined, state: 'Filled', filledBytes: 2 ** 31 });
  await says('True', 'Restored');
  await rig.waitForCondition(primaryVolumes, 'data-copy', 'Filled', 'True');
  expect(await held()).toEqual([]);
  expect(created()).toBe(1);
  await rig.api.delete(snapshotRestores, rig.key('copy'));
  await rig.waitForGone(snapshotRestores, 'copy');
  await rig.waitForCondition(primaryVolumes, 'data-copy', 'Ready', 'True');
});

test('the Snapshot is not deleted while the new volume needs it', async () => {
  await rig.apply(restoreYaml());
  await says('False', 'Filling');
  await rig.api.delete(snapshots, rig.key('data-before-upgrade'));
  await rig.waitForCondition(snapshots, 'data-before-upgrade', 'DeletionBlocked', 'True', 'InUse');
  await agentSays({ state: 'Filled' });
  await says('True', 'Restored');
  await rig.waitForGone(snapshots, 'data-before-upgrade');
});

test('refused with reasons: too small, or a name that is taken', async () => {
  await rig.apply(restoreYaml(', size: 4Mi'));
  expect((await says('False', 'TooSmall')).message).toMatch(/the snapshot has/);
  await rig.api.delete(snapshotRestores, rig.key('copy'));
  await rig.waitForGone(snapshotRestores, 'copy');
  await rig.apply(restoreYaml().replace('data-copy', 'data'));
  await says('False', 'NameTaken');
  expect(created()).toBe(0);
  expect(await held()).toEqual([]);
});

test('a hold that is refused, and answers that are lost, are asked for again', async () => {
  rig.cluster.agent('node-b').fail('putHold', 'NotReady', 'the snapshot is still being taken', 2);
  rig.cluster.agent('node-b').loseReplies('putHold');
  rig.cluster.agent('node-a').loseReplies('putVolume');
  await rig.apply(restoreYaml());
  await says('False', 'Filling');
  rig.cluster.agent('node-b').fail('deleteHold', 'Unavailable', 'not now', 1);
  await agentSays({ state: 'Filled' });
  await says('True', 'Restored');
  expect(await held()).toEqual([]);
});

test('deleted in the middle, it waits for the volume; abandoned, or without the volume, it releases the snapshot', async () => {
  await rig.apply(restoreYaml());
  await says('False', 'Filling');
  await rig.api.delete(snapshotRestores, rig.key('copy'));
  await rig.waitForCondition(snapshotRestores, 'copy', 'DeletionBlocked', 'True', 'Filling');
  await rig.api.patch(snapshotRestores, rig.key('copy'), {
    metadata: { annotations: { [abandonAnnotation]: 'true' } },
  });
  await rig.waitForGone(snapshotRestores, 'copy');
  expect(await held()).toEqual([]);

  await rig.api.delete(primaryVolumes, rig.key('data-copy'));
  await rig.waitForGone(primaryVolumes, 'data-copy');
  await rig.apply(restoreYaml());
  await says('False', 'Filling');
  await rig.api.delete(primaryVolumes, rig.key('data-copy'));
  await says('False', 'VolumeDeleted');
  expect(await held()).toEqual([]);
});
