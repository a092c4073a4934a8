import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { primaryLabel, standbyLabel } from '../../operator/planning/node-labels.ts';
import { nodes } from '../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import {
  type PersistentVolumeClaim,
  persistentVolumeClaims,
  persistentVolumes,
} from '../../operator/resources/storage-kinds.ts';
import { waitFor } from '../support/wait-for.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { messageOf, type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');
const canBind = !('unavailable' in plane) && plane.hasControllerManager;
const wait = { timeoutMs: 60_000, intervalMs: 100 };
const selectedNode = 'volume.kubernetes.io/selected-node';

/** Needs kube-controller-manager: it binds claims and protects those that are used. */
describe.skipIf(!canBind)('PersistentVolumes and claims', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
    namespace = await rig.namespace();
    await rig.apply(...['node-a', 'node-b'].map(node), storageClass('us-now', {}));
    await rig.apply(storageClass('us-late', { mirror: 'false' }, { volumeBindingMode: 'WaitForFirstConsumer' }));
  });

  afterAll(async () => {
    await rig?.kubectl.try(['delete', 'storageclass', 'us-now', 'us-late']);
    await rig?.kubectl.try(['delete', 'node', 'node-a', 'node-b']);
    await rig?.remove();
  });

  const claimOf = (name: string) => rig.api.get(persistentVolumeClaims, { namespace, name });
  const isBound = async (name: string): Promise<PersistentVolumeClaim> =>
    await waitFor(
      async () => {
        const found = await claimOf(name);
        return found?.status?.phase === 'Bound' ? found : undefined;
      },
      { ...wait, what: `the binding of claim ${name}` },
    );
  const volumeOfClaim = async (name: string) =>
    await rig.api.get(persistentVolumes, { name: (await claimOf(name))?.spec.volumeName ?? '' });
  const nodesWith = async (label: string) =>
    (await rig.api.list(nodes, { labelSelector: label })).items.map(({ metadata }) => metadata.name);

  test('Kubernetes binds what the operator makes of a volume, its mirror and a snapshot', async () => {
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'data-standby', 'data'));
    await rig.reaches(standbyMirrors, namespace, 'data-standby', { type: 'InSync', status: 'True' });
    await rig.apply(snapshot(namespace, 'before', 'data-standby'));
    for (const name of ['data', 'data-standby-latest', 'before']) {
      await isBound(name);
      expect((await volumeOfClaim(name))?.status?.phase).toBe('Bound');
    }
    const of = await rig.reaches(primaryVolumes, namespace, 'data', {
      type: 'Claimed',
      status: 'True',
      reason: 'Bound',
    });
    const standby = await rig.reaches(standbyMirrors, namespace, 'data-standby', { type: 'Claimed', status: 'True' });
    await rig.reaches(snapshots, namespace, 'before', { type: 'Claimed', status: 'True' });
    await waitFor(async () => (await nodesWith(primaryLabel(of))).join() === 'node-a', wait);
    await waitFor(async () => (await nodesWith(standbyLabel(standby))).join() === 'node-b', wait);
    expect((await volumeOfClaim('before'))?.spec.accessModes).toEqual(['ReadOnlyMany']);
  });

  test('a snapshot waits for the pod that uses its claim', async () => {
    await rig.apply(pod('backup', 'before'));
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', 'snapshot.understudy.dev/before']);
    const wanted = { type: 'DeletionBlocked', status: 'True', reason: 'ClaimInUse' } as const;
    const blocked = await rig.reaches(snapshots, namespace, 'before', wanted);
    expect(messageOf(blocked, 'DeletionBlocked')).toContain('claim before is used by pod backup');
    expect((await claimOf('before'))?.metadata.finalizers).toContain('kubernetes.io/pvc-protection');
    await rig.kubectl.run(['delete', '-n', namespace, '--grace-period=0', '--force', 'pod/backup']);
    await rig.vanishes(snapshots, namespace, 'before');
    expect(await claimOf('before')).toBeUndefined();
  });

  test('a claim that was deleted by hand comes back, and is bound to the same volume', async () => {
    const before = await isBound('data');
    await rig.kubectl.run(['delete', '-n', namespace, 'pvc/data']);
    const after = await waitFor(
      async () => {
        const found = await claimOf('data');
        return found?.status?.phase === 'Bound' && found.metadata.uid !== before.metadata.uid ? found : undefined;
      },
      { ...wait, what: 'the next claim' },
    );
    expect(after.spec.volumeName).toBe(before.spec.volumeName);
    await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Claimed', status: 'True' });
  });

  test('a claim of a class is provisioned, grows, and takes everything along', async () => {
    await rig.apply(claim('db', 'us-now'));
    await isBound('db');
    await rig.reaches(standbyMirrors, namespace, 'db-standby', { type: 'InSync', status: 'True' });
    const patch = { spec: { resources: { requests: { storage: '24Mi' } } } };
    await rig.kubectl.run(['patch', '-n', namespace, 'pvc/db', '-p', JSON.stringify(patch)]);
    await waitFor(async () => (await volumeOfClaim('db'))?.spec.capacity.storage === '24Mi', wait);
    await waitFor(
      async () => (await claimOf('db'))?.status?.conditions?.some(({ type }) => type === 'FileSystemResizePending'),
      wait,
    );
    const name = (await rig.api.get(primaryVolumes, { namespace, name: 'db' }))?.status?.volume;
    for (const agent of [rig.agents.a, rig.agents.b]) {
      expect((await agent.volumes()).find((copy) => copy.volume === name)?.size).toBe(24 * 2 ** 20);
    }
    const made = await volumeOfClaim('db');
    await rig.kubectl.run(['delete', '-n', namespace, 'pvc/db']);
    await rig.vanishes(primaryVolumes, namespace, 'db');
    await rig.vanishes(persistentVolumes, undefined, made?.metadata.name ?? '');
    await rig.vanishes(standbyMirrors, namespace, 'db-standby');
  });

  test('a claim that waits for its first consumer is provisioned where that is', async () => {
    await rig.apply(claim('late', 'us-late'));
    // What the scheduler does when a pod uses the claim.
    await rig.kubectl.run(['annotate', '-n', namespace, 'pvc/late', `${selectedNode}=node-b`]);
    await isBound('late');
    const made = await rig.reaches(primaryVolumes, namespace, 'late', { type: 'Ready', status: 'True' });
    expect(made.status?.node).toBe('node-b');
    await rig.kubectl.run(['delete', '-n', namespace, 'pvc/late']);
    await rig.vanishes(primaryVolumes, namespace, 'late');
  });

  test('a class that is wrong is explained where people look: at the claim', async () => {
    await rig.apply(storageClass('us-wrong', { disk: 'ssd' }), claim('wrong', 'us-wrong'));
    const described = async () => await rig.kubectl.run(['describe', '-n', namespace, 'pvc/wrong']);
    await waitFor(async () => (await described()).includes('known parameters: pool, fsType'), wait);
    await rig.kubectl.run(['delete', '-n', namespace, 'pvc/wrong', 'storageclass/us-wrong']);
  });

  test('a Node that is deleted and made again has its labels again', async () => {
    const of = await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Ready', status: 'True' });
    await rig.kubectl.run(['delete', 'node', 'node-a']);
    await rig.apply(node('node-a'));
    await waitFor(async () => (await nodesWith(primaryLabel(of))).join() === 'node-a', wait);
  });

  test('deleting the namespace leaves nothing, not even what is outside of it', async () => {
    await rig.kubectl.run(['delete', 'namespace', namespace]);
    const ours = async () =>
      (await rig.api.list(persistentVolumes, { labelSelector: 'understudy.dev/owner-uid' })).items;
    await waitFor(async () => (await ours()).length === 0, { ...wait, what: 'the end of the PersistentVolumes' });
    const labels = async () => JSON.stringify((await rig.api.list(nodes)).items.map(({ metadata }) => metadata.labels));
    await waitFor(async () => !/(primary|standby)\.understudy\.dev/.test(await labels()), wait);
    await rig.expectNothingLeft();
  });

  function claim(name: string, storageClassName: string): object {
    return {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name, namespace },
      spec: { accessModes: ['ReadWriteOnce'], storageClassName, resources: { requests: { storage: '16Mi' } } },
    };
  }

  /** It runs nowhere: that it names the claim and a node is what counts. */
  function pod(name: string, claimName: string): object {
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace },
      spec: {
        nodeName: 'node-b',
        containers: [
          { name: 'main', image: 'none.invalid/none:1', volumeMounts: [{ name: 'data', mountPath: '/data' }] },
        ],
        volumes: [{ name: 'data', persistentVolumeClaim: { claimName, readOnly: true } }],
      },
    };
  }
});

function node(name: string): object {
  const labels = { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' };
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
}

function storageClass(name: string, parameters: object, more: object = {}): object {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: 'csi.understudy.dev',
    allowVolumeExpansion: true,
    parameters: { provisioning: 'Sparse', ...parameters },
    ...more,
  };
}
