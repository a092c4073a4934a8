import { afterEach, beforeEach, expect, test } from 'vitest';
import { nodes } from '../../../operator/resources/core-kinds.ts';
import { claimUidLabel } from '../../../operator/resources/group.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { persistentVolumeClaims, persistentVolumes } from '../../../operator/resources/storage-kinds.ts';
import { claimYaml, poolYaml, storageClassYaml, volumeYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

const timeoutMs = 10_000;
let rig: OperatorRig;

beforeEach(async () => {
  rig = new OperatorRig();
  await rig.addNodes('node-a', 'node-b', 'node-c');
  for (const node of ['node-a', 'node-b']) {
    await rig.apply(poolYaml(node, 'main'));
    await rig.apply(poolYaml(node, 'buffer', ', purpose: buffer'));
  }
  rig.bindClaims();
  rig.start();
});
afterEach(() => rig.stop());

async function isBound(name: string): Promise<void> {
  await waitFor(async () => (await rig.claim(name))?.status?.phase === 'Bound', { timeoutMs, what: `claim ${name}` });
}

test('a plain claim becomes a volume with its mirror', async () => {
  await rig.apply(storageClassYaml('understudy', { bufferPool: 'buffer', bufferCapacity: '50%' }));
  await rig.apply(claimYaml('data', 'understudy', '64Mi'));
  await isBound('data');
  const [claim, volume, mirror] = [await rig.claim('data'), await rig.volume('data'), await rig.mirror('data-standby')];
  expect(volume?.metadata.labels?.[claimUidLabel]).toBe(claim?.metadata.uid);
  expect(volume?.metadata.annotations?.['understudy.dev/pending-mirror']).toBeUndefined();
  expect(volume?.spec).toMatchObject({ size: 64 * 2 ** 20, claimName: 'data', storageClassName: 'understudy' });
  expect(mirror?.spec).toMatchObject({
    primaryVolumeRef: { name: 'data' },
    buffer: { pool: 'buffer', capacity: 32 * 2 ** 20 },
  });
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  await rig.waitForCondition(primaryVolumes, 'data', 'Claimed', 'True');
  const made = await rig.persistentVolume(claim?.spec.volumeName ?? '');
  expect(made?.spec).toMatchObject({ storageClassName: 'understudy', claimRef: { uid: claim?.metadata.uid } });
  await waitFor(async () => (await rig.claim('data-standby-latest')) !== undefined, { timeoutMs });
  expect(claim?.metadata.ownerReferences).toBeUndefined();
});

test('a deleted claim takes everything along, and the nodes lose their labels', async () => {
  await rig.apply(storageClassYaml('understudy', {}));
  await rig.apply(claimYaml('data', 'understudy'));
  await isBound('data');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  await rig.api.delete(persistentVolumeClaims, rig.key('data'));
  await rig.waitForGone(primaryVolumes, 'data');
  await rig.waitForGone(standbyMirrors, 'data-standby');
  await waitFor(async () => (await rig.api.list(persistentVolumes)).items.length === 0, { timeoutMs });
  for (const agent of rig.cluster.agents.values()) expect(agent.volumes.size).toBe(0);
  const unlabelled = async () => !JSON.stringify((await rig.api.list(nodes)).items).includes('primary.understudy.dev');
  await waitFor(unlabelled, { timeoutMs });
});

test('with Retain, of the class or of the PersistentVolume, the data stays', async () => {
  await rig.apply(storageClassYaml('kept', { mirror: 'false' }, 'reclaimPolicy: Retain'));
  await rig.apply(storageClassYaml('understudy', { mirror: 'false' }));
  await rig.apply(claimYaml('a', 'kept'));
  await rig.apply(claimYaml('b', 'understudy'));
  await isBound('a');
  await isBound('b');
  const name = (await rig.claim('b'))?.spec.volumeName ?? '';
  await rig.api.patch(persistentVolumes, { name }, { spec: { persistentVolumeReclaimPolicy: 'Retain' } });
  for (const claim of ['a', 'b']) await rig.api.delete(persistentVolumeClaims, rig.key(claim));
  for (const volume of ['a', 'b']) {
    await rig.waitForCondition(primaryVolumes, volume, 'Claimed', 'False', 'ClaimDeleted');
  }
  expect((await rig.persistentVolume(name))?.status?.phase).toBe('Released');
  expect((await rig.volume('a'))?.metadata.deletionTimestamp).toBeUndefined();
  expect((await rig.volume('b'))?.metadata.deletionTimestamp).toBeUndefined();
  // A new claim of that name is another one: it gets a volume of its own, with nothing in it.
  await rig.apply(claimYaml('a', 'kept'));
  await isBound('a');
  const again = await rig.claim('a');
  expect((await rig.volume(`pvc-${again?.metadata.uid}`))?.spec.claimName).toBe('a');
});

test('the first consumer decides on the node; where it cannot be, another one is asked for', async () => {
  await rig.apply(storageClassYaml('late', {}, 'volumeBindingMode: WaitForFirstConsumer'));
  await rig.apply(claimYaml('data', 'late'));
  const select = async (node: string) => {
    const annotations = { 'volume.kubernetes.io/selected-node': node };
    await rig.api.patch(persistentVolumeClaims, rig.key('data'), { metadata: { annotations } });
  };
  await select('node-c');
  await waitFor(async () => (await rig.eventsOf('data')).some((text) => text.includes('not possible on node node-c')), {
    timeoutMs,
  });
  const selected = async () => (await rig.claim('data'))?.metadata.annotations?.['volume.kubernetes.io/selected-node'];
  await waitFor(async () => (await selected()) === undefined, { timeoutMs });
  expect(await rig.volume('data')).toBeUndefined();
  await select('node-b');
  await isBound('data');
  expect((await rig.volume('data'))?.status?.node).toBe('node-b');
});

test('a claim grows: both copies, the PersistentVolume, then the filesystem is left to the kubelet', async () => {
  await rig.apply(storageClassYaml('understudy', {}));
  await rig.apply(claimYaml('data', 'understudy', '1Gi'));
  await isBound('data');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  await rig.api.patch(persistentVolumeClaims, rig.key('data'), {
    spec: { resources: { requests: { storage: '2Gi' } } },
  });
  const name = (await rig.claim('data'))?.spec.volumeName ?? '';
  await waitFor(async () => (await rig.persistentVolume(name))?.spec.capacity.storage === '2Gi', { timeoutMs });
  for (const node of ['node-a', 'node-b']) expect(rig.cluster.agent(node).volume(name).spec.size).toBe(2 ** 31);
  const pending = async () => (await rig.claim('data'))?.status?.conditions?.map(({ type }) => type).join();
  await waitFor(async () => (await pending()) === 'FileSystemResizePending', { timeoutMs });
  // What the kubelet does when the filesystem has grown.
  const status = { capacity: { storage: '2Gi' }, conditions: null };
  await rig.api.patch(persistentVolumeClaims, rig.key('data'), { status }, { subresource: 'status' });
  await rig.restart();
  await rig.waitForCondition(primaryVolumes, 'data', 'Claimed', 'True');
  expect(await pending()).toBeUndefined();
});

test('a claim that cannot grow in use says what to do, and then that it grows', async () => {
  await rig.apply(storageClassYaml('understudy', {}));
  await rig.apply(claimYaml('data', 'understudy', '1Gi'));
  await isBound('data');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  const agent = rig.cluster.agent((await rig.volume('data'))?.status?.node ?? '');
  agent.fail('putVolume', 'InUse', 'end or restart the pods that use the volume', 1000);
  const requests = { storage: '2Gi' };
  await rig.api.patch(persistentVolumeClaims, rig.key('data'), { spec: { resources: { requests } } });
  const told = async (text: RegExp) => {
    const { conditions = [] } = (await rig.claim('data'))?.status ?? {};
    return conditions.length === 1 && text.test(`${conditions[0]?.type}: ${conditions[0]?.message}`);
  };
  await waitFor(() => told(/^Resizing: .*restart the pods that use the volume/), { timeoutMs });
  const events = await rig.eventsOf('data');
  expect(events.filter((text) => /^InUse: .*restart the pods that use the volume/.test(text))).toHaveLength(1);
  agent.mend('putVolume');
  await waitFor(() => told(/^FileSystemResizePending: /), { timeoutMs: 60_000 });
}, 90_000);

test('what the class says wrong is told to the claim, and a class that is put right helps', async () => {
  await rig.apply(storageClassYaml('wrong', { poool: 'main' }));
  await rig.apply(claimYaml('data', 'wrong'));
  const told = async () => (await rig.eventsOf('data')).find((text) => text.startsWith('ProvisioningFailed'));
  const message = await waitFor(told, { timeoutMs });
  expect(message).toContain('unknown key "poool"; did you mean "pool"?');
  expect(message).toContain('known parameters: pool, fsType');
  expect(await rig.volume('data')).toBeUndefined();
});

test('a claim of another provisioner, or that is to be filled, is not touched', async () => {
  await rig.apply(
    'apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: { name: other }\nprovisioner: example.com/x',
  );
  await rig.apply(storageClassYaml('understudy', {}));
  await rig.apply(claimYaml('theirs', 'other'));
  await rig.apply(
    claimYaml(
      'filled',
      'understudy',
      '1Gi',
      '  dataSource: { apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: s }',
    ),
  );
  await waitFor(async () => (await rig.eventsOf('filled')).join().includes('VolumeSnapshot s'), { timeoutMs });
  expect((await rig.api.list(primaryVolumes)).items).toEqual([]);
});

test('where the name of the claim is taken, the volume has another one', async () => {
  await rig.apply(storageClassYaml('understudy', { mirror: 'false' }));
  await rig.apply(volumeYaml('data', { nodeName: 'node-a' }, '  claim: false\n'));
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  await rig.apply(claimYaml('data', 'understudy'));
  await isBound('data');
  const uid = (await rig.claim('data'))?.metadata.uid;
  expect((await rig.volume(`pvc-${uid}`))?.spec.claimName).toBe('data');
});

test('a mirror that was not made before the operator ended is made afterwards; one that was deleted is not', async () => {
  await rig.apply(storageClassYaml('understudy', {}));
  let refuse = true;
  rig.api.intercept = ({ verb, kind }) => {
    if (refuse && verb === 'create' && kind === 'StandbyMirror') throw new Error('the API server is going away');
  };
  await rig.apply(claimYaml('data', 'understudy'));
  await isBound('data');
  expect(await rig.mirror('data-standby')).toBeUndefined();
  refuse = false;
  await rig.restart();
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  await rig.api.delete(standbyMirrors, rig.key('data-standby'));
  await rig.waitForGone(standbyMirrors, 'data-standby');
  await rig.restart();
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'False', 'NoMirror');
  expect(await rig.mirror('data-standby')).toBeUndefined();
});
