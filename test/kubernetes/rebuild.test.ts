import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');
const patience = { timeoutMs: 60_000 };

describe.skipIf('unavailable' in plane)('a standby whose node is lost', () => {
  let rig: Rig;
  let namespace: string;
  let primary: NbdTestClient;
  const written = randomBytes(300 * 1024);

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane(), ['node-c'], { arbiter: true });
    namespace = await rig.namespace();
  });

  afterAll(async () => {
    primary?.close();
    await rig?.remove();
  });

  const mirrorReaches = (type: 'InSync' | 'StandbyReachable', status: 'True' | 'False') =>
    rig.reaches(standbyMirrors, namespace, 'standby', { type, status });

  test('is built again on another node of the selector, with every write', async () => {
    const spec = { nodeName: undefined, nodeSelector: { 'kubernetes.io/os': 'linux' }, rebuild: { after: '3s' } };
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'standby', 'data', spec));
    expect((await mirrorReaches('InSync', 'True')).status?.node).toBe('node-b');
    await rig.apply(snapshot(namespace, 'early', 'standby'));
    await rig.reaches(snapshots, namespace, 'early', { type: 'Ready', status: 'True' });
    const { status } = await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Protected', status: 'True' });
    primary = await NbdTestClient.connect(status?.nbd ?? '', { exportName: status?.volume ?? '' });

    await rig.agents.b.kill();
    await primary.write(40 * 1024, written);
    await mirrorReaches('StandbyReachable', 'False');
    await rig.reaches(primaryVolumes, namespace, 'data', { type: 'StaleCopy', status: 'True', reason: 'NodeAway' });
    await rig.reaches(snapshots, namespace, 'early', { type: 'Ready', status: 'False', reason: 'LostWithNode' });
    expect((await mirrorReaches('InSync', 'True')).status?.node).toBe('node-c');

    await rig.apply(snapshot(namespace, 'late', 'standby'));
    const taken = await rig.reaches(snapshots, namespace, 'late', { type: 'Ready', status: 'True' });
    const [copy] = (await rig.agents.others[0]?.volumes()) ?? [];
    const exportName = `${copy?.volume}@${taken.status?.snapshot}`;
    const reader = await NbdTestClient.connect(copy?.nbd ?? '', { exportName });
    expect((await reader.read(40 * 1024, written.length)).equals(written)).toBe(true);
    reader.close();
  });

  test('has what is left of it removed when the node is back, after its snapshots', async () => {
    await rig.agents.b.start();
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshot.understudy.dev/early']);
    await waitFor(async () => (await rig.agents.b.volumes()).length === 0, patience);
    expect((await mirrorReaches('InSync', 'True')).status?.node).toBe('node-c');
    primary.close();
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshot.understudy.dev/late']);
    await rig.kubectl.run(['delete', '-n', namespace, 'standbymirror/standby', 'primaryvolume/data']);
    await rig.expectNothingLeft();
  });
});
