import { afterEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../../common/log.ts';
import { applyManifest } from '../../../operator/kube/apply.ts';
import { primaryLabel, standbyLabel } from '../../../operator/planning/node-labels.ts';
import { nodes, pods } from '../../../operator/resources/core-kinds.ts';
import { abandonAnnotation, finalizer } from '../../../operator/resources/group.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { persistentVolumeClaims, persistentVolumes } from '../../../operator/resources/storage-kinds.ts';
import { startOperator } from '../../../operator/start-operator.ts';
import { nodeYaml, podYaml, poolYaml, snapshotYaml, volumeYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
afterEach(() => rig.stop());

async function start(): Promise<void> {
  rig = new OperatorRig();
  await rig.addNodes('node-a', 'node-b', 'node-c');
  rig.bindClaims();
  rig.start();
}

async function labelOfPrimary(): Promise<string> {
  const volume = await rig.volume();
  if (volume === undefined) throw new Error('there is no volume');
  return primaryLabel(volume);
}

async function labelOfStandby(): Promise<string> {
  const mirror = await rig.mirror();
  if (mirror === undefined) throw new Error('there is no mirror');
  return standbyLabel(mirror);
}

async function isOn(label: string, ...expected: readonly string[]): Promise<void> {
  await waitFor(async () => (await rig.nodesWith(label)).join() === expected.join(), {
    timeoutMs: 5000,
    what: `${label} on ${expected.join() || 'no node'}`,
  });
}

test('a volume becomes a PersistentVolume and a claim, bound to each other', async () => {
  await start();
  await rig.mirroredVolume();
  await rig.waitForCondition(primaryVolumes, 'data', 'Claimed', 'True', 'Bound');
  const volume = await rig.volume();
  const uid = volume?.metadata.uid;
  expect(volume?.status).toMatchObject({ persistentVolumeName: `pv-${uid}`, claimName: 'data' });
  const claim = await rig.claim('data');
  expect(claim?.spec).toMatchObject({
    volumeName: `pv-${uid}`,
    storageClassName: '',
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Gi' } },
  });
  expect(claim?.metadata.ownerReferences).toMatchObject([{ kind: 'PrimaryVolume', name: 'data', uid }]);
  const made = await rig.persistentVolume(`pv-${uid}`);
  expect(made?.metadata.annotations?.['pv.kubernetes.io/provisioned-by']).toBe('csi.understudy.dev');
  expect(made?.metadata.finalizers).toContain(finalizer);
  expect(made?.metadata.ownerReferences).toBeUndefined();
  expect(made?.spec).toMatchObject({
    capacity: { storage: '1Gi' },
    storageClassName: '',
    persistentVolumeReclaimPolicy: 'Delete',
    claimRef: { namespace: 'shop', name: 'data', uid: claim?.metadata.uid },
    csi: {
      driver: 'csi.understudy.dev',
      volumeHandle: `pv-${uid}`,
      fsType: 'ext4',
      volumeAttributes: { 'understudy.dev/uid': uid },
    },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: await labelOfPrimary(), operator: 'In', values: ['shop'] }] }],
      },
    },
  });
  await isOn(await labelOfPrimary(), 'node-a');
});

test('names, class, mode and options are those of the volume', async () => {
  await start();
  await rig.apply(poolYaml('node-a', 'main'));
  const spec = '  volumeMode: Block\n  claimName: db\n  storageClassName: fast\n  reclaimPolicy: Retain\n';
  await rig.apply(volumeYaml('raw', { nodeName: 'node-a' }, spec));
  await rig.apply(volumeYaml('files', { nodeName: 'node-a' }, '  fsType: xfs\n  mountOptions: [noatime]\n'));
  await rig.apply(volumeYaml('none', { nodeName: 'node-a' }, '  claim: false\n'));
  await rig.waitForCondition(primaryVolumes, 'raw', 'Claimed', 'True');
  await rig.waitForCondition(primaryVolumes, 'files', 'Claimed', 'True');
  await rig.waitForCondition(primaryVolumes, 'none', 'Ready', 'True');
  const raw = await rig.persistentVolume((await rig.claim('db'))?.spec.volumeName ?? '');
  expect(raw?.spec).toMatchObject({
    volumeMode: 'Block',
    storageClassName: 'fast',
    persistentVolumeReclaimPolicy: 'Retain',
  });
  expect(raw?.spec.csi?.fsType).toBeUndefined();
  const files = await rig.persistentVolume((await rig.claim('files'))?.spec.volumeName ?? '');
  expect(files?.spec).toMatchObject({ mountOptions: ['noatime'], csi: { fsType: 'xfs' } });
  expect(await rig.claim('none')).toBeUndefined();
  expect((await rig.api.list(persistentVolumes)).items).toHaveLength(2);
});

test('a snapshot becomes one that is read-only, on the node that holds it; the mirror has one for the newest', async () => {
  await start();
  await rig.mirroredVolumeWithSnapshot();
  await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Claimed', 'True');
  await rig.waitForCondition(standbyMirrors, 'data-standby', 'Claimed', 'True');
  const [name, snapshot] = [await rig.agentVolume(), await rig.snapshot()];
  const uid = snapshot?.metadata.uid;
  expect(snapshot?.status).toMatchObject({ persistentVolumeName: `snap-${uid}`, claimName: 'data-before-upgrade' });
  expect((await rig.claim('data-before-upgrade'))?.spec.accessModes).toEqual(['ReadOnlyMany']);
  const affinity = (key: string, value: string) => ({
    required: { nodeSelectorTerms: [{ matchExpressions: [{ key, operator: 'In', values: [value] }] }] },
  });
  expect((await rig.persistentVolume(`snap-${uid}`))?.spec).toMatchObject({
    accessModes: ['ReadOnlyMany'],
    persistentVolumeReclaimPolicy: 'Retain',
    csi: { volumeHandle: `${name}@snap-${uid}`, readOnly: true },
    nodeAffinity: affinity('kubernetes.io/hostname', 'node-b'),
  });
  const latest = await rig.claim('data-standby-latest');
  expect((await rig.persistentVolume(latest?.spec.volumeName ?? ''))?.spec).toMatchObject({
    csi: { volumeHandle: `${name}@latest`, readOnly: true },
    nodeAffinity: affinity(await labelOfStandby(), 'shop'),
  });
  await isOn(await labelOfStandby(), 'node-b');
});

describe('the label of the primary', () => {
  async function promote(): Promise<void> {
    const name = await rig.agentVolume();
    const b = rig.cluster.agent('node-b');
    await b.prepare(name, 2);
    await b.putVolume(name, { ...b.volume(name).spec, role: 'primary', epoch: 2 });
  }

  test('is taken off the old node before it comes to the new one', async () => {
    await start();
    await rig.mirroredVolume();
    const label = await labelOfPrimary();
    await isOn(label, 'node-a');
    const patched: string[] = [];
    rig.api.intercept = ({ verb, kind, name }) => {
      if (verb === 'patch' && kind === 'Node') patched.push(name ?? '');
    };
    await promote();
    await isOn(label, 'node-b');
    expect(patched.filter((node) => node !== 'node-c')).toEqual(['node-a', 'node-b']);
  });

  test('waits for a node that cannot be written yet', async () => {
    await start();
    await rig.mirroredVolume();
    const label = await labelOfPrimary();
    await isOn(label, 'node-a');
    let refused = 0;
    rig.api.intercept = ({ verb, kind, name }) => {
      if (verb !== 'patch' || kind !== 'Node' || name !== 'node-a' || refused > 2) return;
      refused += 1;
      throw new Error('etcd is busy');
    };
    await promote();
    await waitFor(() => refused > 1, { timeoutMs: 10_000 });
    expect(await rig.nodesWith(label)).toEqual(['node-a']);
    await isOn(label, 'node-b');
  });

  test('is there again when the Node was deleted and made anew', async () => {
    await start();
    await rig.mirroredVolume();
    const label = await labelOfPrimary();
    await isOn(label, 'node-a');
    await rig.api.delete(nodes, { name: 'node-a' });
    await rig.apply(nodeYaml('node-a'));
    await isOn(label, 'node-a');
  });

  test('goes with the volume, and other labels stay', async () => {
    await start();
    await rig.mirroredVolume();
    const [primary, standby] = [await labelOfPrimary(), await labelOfStandby()];
    await isOn(primary, 'node-a');
    await isOn(standby, 'node-b');
    await rig.api.delete(standbyMirrors, rig.key('data-standby'));
    await rig.api.delete(primaryVolumes, rig.key('data'));
    await rig.waitForGone(primaryVolumes, 'data');
    await isOn(primary);
    await isOn(standby);
    const node = await rig.api.get(nodes, { name: 'node-a' });
    expect(node?.metadata.labels).toEqual({ 'kubernetes.io/hostname': 'node-a', 'kubernetes.io/os': 'linux' });
  });
});

describe('deletion', () => {
  test('takes claims and PersistentVolumes along', async () => {
    await start();
    await rig.mirroredVolumeWithSnapshot();
    await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Claimed', 'True');
    await rig.waitForCondition(primaryVolumes, 'data', 'Claimed', 'True');
    await rig.api.delete(snapshots, rig.key('data-before-upgrade'));
    await rig.api.delete(standbyMirrors, rig.key('data-standby'));
    await rig.api.delete(primaryVolumes, rig.key('data'));
    await rig.waitForGone(primaryVolumes, 'data');
    await waitFor(async () => (await rig.api.list(persistentVolumes)).items.length === 0, { timeoutMs: 5000 });
    expect((await rig.api.list(persistentVolumeClaims)).items).toEqual([]);
    for (const agent of rig.cluster.agents.values()) expect(agent.volumes.size).toBe(0);
  });

  test('of a snapshot waits for the pods that use its claim, by name, then for its readers', async () => {
    await start();
    await rig.mirroredVolumeWithSnapshot();
    await rig.waitForCondition(snapshots, 'data-before-upgrade', 'Claimed', 'True');
    await rig.apply(podYaml('backup-1', 'data-before-upgrade'));
    await rig.apply(podYaml('backup-2', 'data-before-upgrade'));
    const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
    const [view] = [...standby.snapshots.values()];
    if (view) view.readers = 1;
    await rig.api.delete(snapshots, rig.key('data-before-upgrade'));
    const blocked = await rig.waitForCondition(
      snapshots,
      'data-before-upgrade',
      'DeletionBlocked',
      'True',
      'ClaimInUse',
    );
    expect(blocked.message).toContain('claim data-before-upgrade is used by pods backup-1, backup-2');
    for (const name of ['backup-1', 'backup-2']) await rig.api.delete(pods, rig.key(name));
    const read = await rig.waitForCondition(snapshots, 'data-before-upgrade', 'DeletionBlocked', 'True', 'InUse');
    expect(read.message).toContain('is being read');
    expect(standby.snapshots.size).toBe(1);
    if (view) view.readers = 0;
    await rig.waitForGone(snapshots, 'data-before-upgrade');
    expect(standby.snapshots.size).toBe(0);
    await waitFor(async () => (await rig.api.list(persistentVolumes)).items.length === 2, { timeoutMs: 5000 });
  });

  test('of a volume whose claim is used waits; abandoned, it goes and nothing is left over', async () => {
    await start();
    await rig.apply(poolYaml('node-a', 'main'));
    await rig.apply(volumeYaml('busy', { nodeName: 'node-a' }, ''));
    await rig.waitForCondition(primaryVolumes, 'busy', 'Claimed', 'True');
    await rig.apply(podYaml('db-0', 'busy'));
    await rig.api.delete(primaryVolumes, rig.key('busy'));
    const blocked = await rig.waitForCondition(primaryVolumes, 'busy', 'DeletionBlocked', 'True', 'ClaimInUse');
    expect(blocked.message).toContain('claim busy is used by pod db-0');
    expect(rig.cluster.agent('node-a').volumes.size).toBe(1);
    const annotations = { [abandonAnnotation]: 'true' };
    await rig.api.patch(primaryVolumes, rig.key('busy'), { metadata: { annotations } });
    await rig.waitForGone(primaryVolumes, 'busy');
    await rig.api.delete(pods, rig.key('db-0'));
    await waitFor(async () => (await rig.api.list(persistentVolumes)).items.length === 0, { timeoutMs: 5000 });
    expect(await rig.claim('busy')).toBeUndefined();
  });

  test('of the claim alone is undone: the volume is still wanted', async () => {
    await start();
    await rig.apply(poolYaml('node-a', 'main'));
    await rig.apply(volumeYaml('kept', { nodeName: 'node-a' }, ''));
    await rig.waitForCondition(primaryVolumes, 'kept', 'Claimed', 'True');
    const before = await rig.claim('kept');
    await rig.api.delete(persistentVolumeClaims, rig.key('kept'));
    const after = await waitFor(
      async () => {
        const claim = await rig.claim('kept');
        return claim !== undefined && claim.metadata.uid !== before?.metadata.uid ? claim : undefined;
      },
      { timeoutMs: 5000 },
    );
    await waitFor(
      async () => (await rig.persistentVolume(after.spec.volumeName ?? ''))?.spec.claimRef?.uid === after.metadata.uid,
      { timeoutMs: 5000 },
    );
    await rig.waitForCondition(primaryVolumes, 'kept', 'Claimed', 'True');
    expect(rig.cluster.agent('node-a').volumes.size).toBe(1);
  });

  test('of the PersistentVolume alone is undone too', async () => {
    await start();
    await rig.apply(poolYaml('node-a', 'main'));
    await rig.apply(volumeYaml('kept', { nodeName: 'node-a' }, ''));
    await rig.waitForCondition(primaryVolumes, 'kept', 'Claimed', 'True');
    const name = (await rig.volume('kept'))?.status?.persistentVolumeName ?? '';
    const before = await rig.persistentVolume(name);
    await rig.api.delete(persistentVolumes, { name });
    await rig.api.delete(persistentVolumeClaims, rig.key('kept'));
    await waitFor(
      async () => {
        const after = await rig.persistentVolume(name);
        return after !== undefined && after.metadata.uid !== before?.metadata.uid;
      },
      { timeoutMs: 5000 },
    );
    await rig.waitForCondition(primaryVolumes, 'kept', 'Claimed', 'True');
  });
});

test('a claim of that name that is not ours is left alone, and the volume says so', async () => {
  await start();
  await rig.apply(
    'apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: { name: taken }\nspec: { storageClassName: x }',
  );
  await rig.apply(poolYaml('node-a', 'main'));
  await rig.apply(volumeYaml('taken', { nodeName: 'node-a' }, ''));
  const conflict = await rig.waitForCondition(primaryVolumes, 'taken', 'Claimed', 'False', 'ClaimConflict');
  expect(conflict.message).toContain('claim taken exists already');
  expect((await rig.api.list(persistentVolumes)).items).toEqual([]);
  await rig.api.delete(primaryVolumes, rig.key('taken'));
  await rig.waitForGone(primaryVolumes, 'taken');
  expect(await rig.claim('taken')).toBeDefined();
});

test('a snapshot that asks for none has no claim, until it does', async () => {
  await start();
  await rig.mirroredVolume();
  await rig.apply(`${snapshotYaml('plain', 'data-standby')}\n  claim: false`);
  await rig.waitForCondition(snapshots, 'plain', 'Ready', 'True');
  expect(await rig.claim('plain')).toBeUndefined();
  await rig.api.patch(snapshots, rig.key('plain'), { spec: { claim: true } });
  await rig.waitForCondition(snapshots, 'plain', 'Claimed', 'True');
  await rig.api.patch(snapshots, rig.key('plain'), { spec: { claim: false } });
  await waitFor(async () => (await rig.claim('plain')) === undefined, { timeoutMs: 5000 });
  await waitFor(async () => (await rig.snapshot('plain'))?.status?.claimName === undefined, { timeoutMs: 5000 });
  expect(rig.cluster.agent('node-b').volume(await rig.agentVolume()).snapshots.size).toBe(1);
});

test('an operator for one namespace leaves what is of others alone', async () => {
  await start();
  await rig.mirroredVolume();
  await rig.waitForCondition(primaryVolumes, 'data', 'Claimed', 'True');
  const label = await labelOfPrimary();
  await isOn(label, 'node-a');
  await rig.stop();
  const other = startOperator({
    api: rig.api,
    agents: rig.cluster.directory(),
    log: silentLog,
    namespace: 'default',
    intervals: { transitionalMs: 20, idleMs: 40 },
  });
  await other.ready();
  // It has looked at everything when it has answered for something of its own.
  await applyManifest(rig.api, volumeYaml('own', { nodeName: 'node-a' }, ''), { namespace: 'default' });
  await waitFor(
    async () => (await rig.api.get(persistentVolumeClaims, { namespace: 'default', name: 'own' })) !== undefined,
    {
      timeoutMs: 5000,
    },
  );
  await other.stop();
  expect(await rig.nodesWith(label)).toEqual(['node-a']);
  const made = await rig.persistentVolume((await rig.volume())?.status?.persistentVolumeName ?? '');
  expect(made?.metadata.deletionTimestamp).toBeUndefined();
});
