import { afterEach, beforeEach, expect, test } from 'vitest';
import { abandonAnnotation } from '../../../operator/resources/group.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../../operator/resources/snapshot-restore.ts';
import { podYaml } from '../../support/manifests.ts';
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
metadata: { name: undo }
spec:
  snapshot: data-before-upgrade
${more}`;
}

const restore = () => rig.api.get(snapshotRestores, rig.key('undo'));
const says = (status: 'True' | 'False' | 'Unknown', reason: string) =>
  rig.waitForCondition(snapshotRestores, 'undo', 'Ready', status, reason);

async function primary() {
  return rig.cluster.agent('node-a').volume(await rig.agentVolume());
}

/** How many restores agents were asked to begin. */
function orders(): number {
  const changes = [...rig.cluster.agents.values()].flatMap((agent) => agent.changes);
  return changes.filter(({ call }) => call === 'putRestore').length;
}

/** What the primary says about the restore from now on. */
async function agentSays(change: object): Promise<void> {
  const volume = await primary();
  if (volume.restore === undefined) throw new Error('no restore was ordered');
  volume.restore = { ...volume.restore, ...change };
}

test('what is there is kept, the restore is ordered once, followed, and over', async () => {
  await rig.apply(restoreYaml());
  await says('False', 'Restoring');
  const { status } = (await restore()) ?? {};
  const before = await rig.snapshot('before-restore-undo');
  const snapshot = await rig.snapshot();
  expect(before?.status?.takenAt).toBeDefined();
  expect((await primary()).restore).toMatchObject({ name: status?.restore, snapshot: snapshot?.status?.snapshot });
  expect(status).toMatchObject({ primaryVolume: 'data', node: 'node-a', before: 'before-restore-undo' });
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'Restoring');

  await agentSays({ totalBytes: 2048, checkedBytes: 1024, writtenBytes: 512 });
  await waitFor(async () => (await restore())?.status?.progress?.percent === 50, { timeoutMs });
  await rig.restart();
  await agentSays({ state: 'Done', checkedBytes: 2048 });
  await says('True', 'Restored');
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  const ordered = orders();
  await rig.restart();
  delete (await primary()).restore;
  await rig.apply(podYaml('later', 'data'));
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  expect((await restore())?.status?.completedAt).toBeDefined();
  expect(orders()).toBe(ordered);
});

test('it waits, and says why, while pods use the volume or it is attached', async () => {
  await rig.apply(podYaml('shop', 'data'));
  await rig.apply(restoreYaml());
  expect((await says('False', 'InUse')).message).toMatch(/pod shop/);
  expect(orders()).toBe(0);
  (await primary()).attached = true;
  const pod = { group: '', version: 'v1', kind: 'Pod', plural: 'pods', namespaced: true, statusSubresource: true };
  await rig.api.delete(pod, rig.key('shop'));
  await waitFor(async () => /attached/.test((await says('False', 'InUse')).message), { timeoutMs });
  expect(await rig.snapshot('before-restore-undo')).toBeUndefined();
  (await primary()).attached = false;
  await says('False', 'Restoring');
});

test('told to, it does not wait for users, and keeps nothing', async () => {
  await rig.apply(podYaml('shop', 'data'));
  (await primary()).attached = true;
  await rig.apply(restoreYaml('  allowInUse: true\n  keepBefore: false'));
  await says('False', 'Restoring');
  expect(await rig.snapshot('before-restore-undo')).toBeUndefined();
});

test('what it needs is waited for, and named', async () => {
  await rig.apply(restoreYaml().replace('data-before-upgrade', 'none'));
  expect((await says('False', 'SnapshotNotFound')).message).toMatch(/none/);
  await rig.api.delete(snapshotRestores, rig.key('undo'));
  await rig.waitForGone(snapshotRestores, 'undo');
  await rig.apply(
    'apiVersion: understudy.dev/v1alpha1\nkind: Snapshot\nmetadata: { name: before-restore-undo }\nspec: { source: { mirror: data-standby } }',
  );
  await rig.apply(restoreYaml());
  await says('False', 'NameTaken');
  expect(orders()).toBe(0);
  await rig.api.delete(snapshots, rig.key('before-restore-undo'));
  await says('False', 'Restoring');
});

test('a refusal of the agent is shown, and asked again', async () => {
  rig.cluster.agent('node-a').fail('putRestore', 'NoSpace', 'the snapshot buffer needs 4Mi', 2);
  await rig.apply(restoreYaml());
  expect((await says('False', 'NoSpace')).message).toMatch(/buffer needs/);
  await says('False', 'Restoring');
});

test('a lost answer does no harm: the same order is found', async () => {
  rig.cluster.agent('node-a').loseReplies('putRestore');
  await rig.apply(restoreYaml());
  await says('False', 'Restoring');
  await agentSays({ state: 'Done' });
  await says('True', 'Restored');
});

test('while the volume is half restored the object stays, unless that is given up', async () => {
  await rig.apply(restoreYaml());
  await says('False', 'Restoring');
  await agentSays({ state: 'Failed', lastError: 'the snapshot is lost' });
  expect((await says('False', 'HalfRestored')).message).toMatch(/the snapshot is lost/);
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'HalfRestored');
  await rig.api.delete(snapshotRestores, rig.key('undo'));
  await rig.waitForCondition(snapshotRestores, 'undo', 'DeletionBlocked', 'True', 'HalfRestored');
  await rig.api.patch(snapshotRestores, rig.key('undo'), {
    metadata: { annotations: { [abandonAnnotation]: 'true' } },
  });
  await rig.waitForGone(snapshotRestores, 'undo');
  expect((await primary()).restore?.state).toBe('GivenUp');
  // What was there before outlives the order.
  expect(await rig.snapshot('before-restore-undo')).toBeDefined();
});
