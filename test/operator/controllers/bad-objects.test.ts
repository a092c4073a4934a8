import { afterEach, beforeEach, expect, test } from 'vitest';
import { events } from '../../../operator/resources/core-kinds.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { mirrorYaml, poolYaml, snapshotYaml, volumeYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
beforeEach(async () => {
  // As in clusters before Kubernetes 1.25: shapes are checked, rules are not.
  rig = new OperatorRig({ admission: 'without-cel' });
  rig.start();
  await rig.applyQuickstart('nodepools');
});
afterEach(() => rig.stop());

test('a volume that breaks a rule says which, and works once it is put right', async () => {
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, '  nodeSelector: { a: b }\n'));
  const { message } = await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'Invalid');
  expect(message).toBe('spec.nodeName: expected exactly one of nodeName and nodeSelector, got both');
  await rig.api.patch(primaryVolumes, rig.key('data'), { spec: { nodeSelector: null } });
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
});

test('a change that is not allowed is refused by name, and the volume stays as it is', async () => {
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, ''));
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  await rig.api.patch(primaryVolumes, rig.key('data'), { spec: { size: '512Mi', fsType: 'xfs' } });
  const { message } = await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'Invalid');
  expect(message).toContain('spec.size: expected at least the size that it has');
  expect(message).toContain('got "xfs" instead of "ext4"');
  expect(rig.cluster.agent('node-a').volume(await rig.agentVolume()).spec.size).toBe(2 ** 30);
  await rig.api.patch(primaryVolumes, rig.key('data'), { spec: { size: '1Gi', fsType: 'ext4' } });
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
});

test('mirrors and snapshots of what is not there say so, and come to life when it appears', async () => {
  await rig.apply(mirrorYaml('m', 'data', 'node-b', 3));
  await rig.apply(snapshotYaml('s', 'm'));
  await rig.apply(snapshotYaml('t', 'nothing'));
  await rig.waitForCondition(standbyMirrors, 'm', 'Ready', 'False', 'VolumeNotFound');
  await rig.waitForCondition(snapshots, 's', 'Ready', 'False', 'SourceNotFound');
  await rig.waitForCondition(snapshots, 't', 'Ready', 'False', 'SourceNotFound');
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, ''));
  await rig.waitForCondition(snapshots, 's', 'Ready', 'True');
});

test('a mirror of a volume that was deleted and made again has to be made again too', async () => {
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, ''));
  await rig.apply(mirrorYaml('m', 'data', 'node-b', 3));
  await rig.waitForCondition(standbyMirrors, 'm', 'InSync', 'True');
  await rig.api.patch(primaryVolumes, rig.key('data'), {
    metadata: { annotations: { 'understudy.dev/abandon': 'true' } },
  });
  await rig.api.delete(primaryVolumes, rig.key('data'));
  await rig.waitForGone(primaryVolumes, 'data');
  await rig.waitForCondition(standbyMirrors, 'm', 'Ready', 'False', 'VolumeNotFound');
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, ''));
  await rig.waitForCondition(standbyMirrors, 'm', 'Ready', 'False', 'VolumeReplaced');
  await rig.api.delete(standbyMirrors, rig.key('m'));
  await rig.waitForGone(standbyMirrors, 'm');
  expect(rig.cluster.agent('node-b').volumes.size).toBe(0);
});

test('pools tell of their agents, of duplicates, and of what is in them', async () => {
  const condition = async (name: string) =>
    (await rig.api.get(nodePools, { name }))?.status?.conditions?.map(({ status, reason }) => `${status} ${reason}`)[0];
  await rig.apply(poolYaml('node-x', 'main'));
  await rig.apply(poolYaml('node-a', 'main').replace('{ name: node-a-main }', '{ name: again }'));
  const timeoutMs = 10_000;
  await waitFor(async () => (await condition('node-x-main')) === 'False NoAgent', { timeoutMs });
  await waitFor(async () => (await condition('again')) === 'False Duplicate', { timeoutMs });
  await waitFor(async () => (await condition('node-b-main')) === 'True AgentAnswers', { timeoutMs });
  rig.cluster.agent('node-b').down = true;
  await waitFor(async () => (await condition('node-b-main')) === 'False AgentUnreachable', { timeoutMs });
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, ''));
  await waitFor(
    async () => (await rig.api.get(nodePools, { name: 'node-a-main' }))?.status?.allocatedBytes === 2 ** 30,
    {
      timeoutMs,
    },
  );
});

test('what people should know is told in events', async () => {
  await rig.apply(volumeYaml('data', { nodeName: 'node-nowhere' }, ''));
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'False', 'NoAgent');
  const told = await waitFor(
    async () => (await rig.api.list(events, { namespace: 'shop' })).items.find(({ reason }) => reason === 'NoAgent'),
    { timeoutMs: 10_000 },
  );
  expect(told).toMatchObject({
    type: 'Warning',
    message: 'no agent is configured for node node-nowhere',
    involvedObject: { kind: 'PrimaryVolume', name: 'data', namespace: 'shop' },
  });
});
