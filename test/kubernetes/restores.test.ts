import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../operator/resources/snapshot-restore.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, restore, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('a SnapshotRestore', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
    namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches(standbyMirrors, namespace, 'copy', { type: 'InSync', status: 'True' });
  });

  afterAll(() => rig?.remove());

  test('puts a volume back to a snapshot of its standby, and keeps what was there', async () => {
    const { status } = await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Ready', status: 'True' });
    const name = status?.volume ?? '';
    const [before, after] = [randomBytes(200 * 1024), randomBytes(200 * 1024)];
    const offset = 512 * 1024;
    const connect = () => NbdTestClient.connect(status?.nbd ?? '', { exportName: name });
    const nbd = await connect();
    await nbd.write(offset, before);
    await rig.apply(snapshot(namespace, 'good', 'copy'));
    await rig.reaches(snapshots, namespace, 'good', { type: 'Ready', status: 'True' });
    await nbd.write(offset, after);
    await nbd.flush();
    await rig.apply(restore(namespace, 'undo', 'good'));
    await rig.reaches(snapshotRestores, namespace, 'undo', { type: 'Ready', status: 'False', reason: 'InUse' });
    nbd.close();

    await rig.reaches(snapshotRestores, namespace, 'undo', { type: 'Ready', status: 'True', reason: 'Restored' });
    const again = await waitFor(() => connect().catch(() => undefined), { timeoutMs: 30_000 });
    expect((await again.read(offset, before.length)).equals(before)).toBe(true);
    again.close();
    const kept = await rig.reaches(snapshots, namespace, 'before-restore-undo', { type: 'Ready', status: 'True' });
    const [standby] = await rig.agents.b.volumes();
    const exportName = `${name}@${kept.status?.snapshot}`;
    const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName });
    expect((await reader.read(offset, after.length)).equals(after)).toBe(true);
    reader.close();
    const row = await rig.kubectl.run(['get', '-n', namespace, 'snapshotrestore', 'undo']);
    expect(row).toMatch(/NAME +SNAPSHOT +VOLUME +PROGRESS% +READY +REASON +AGE/);
    expect(row).toMatch(/undo +good +data +100 +True +Restored/);
  });

  test('makes a new volume with what the snapshot holds, which is filled and then lets go of it', async () => {
    const newVolume = { name: 'data-copy', nodeName: 'node-b', size: '24Mi', provisioning: 'Sparse' };
    await rig.apply(restore(namespace, 'copy', 'good', { newVolume }));
    const made = await rig.reaches(primaryVolumes, namespace, 'data-copy', { type: 'Filled', status: 'True' });
    await rig.reaches(snapshotRestores, namespace, 'copy', { type: 'Ready', status: 'True', reason: 'Restored' });
    const [old] = await rig.agents.a.volumes();
    const read = async (socket: string | undefined, exportName: string | undefined) => {
      const nbd = await NbdTestClient.connect(socket ?? '', { exportName: exportName ?? '' });
      const content = await nbd.read(0, 1024 * 1024);
      nbd.close();
      return content;
    };
    const content = await read(made.status?.nbd, made.status?.volume);
    expect(content.equals(await read(old?.nbd, old?.volume))).toBe(true);
    expect(made).toMatchObject({ status: { node: 'node-b', sizeBytes: 24 * 1024 * 1024 } });
    await expect(
      rig.apply(restore(namespace, 'copy', 'good', { newVolume: { ...newVolume, size: 'much' } })),
    ).rejects.toThrow(/newVolume.size/);
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshotrestore', 'copy']);
  });

  test('leaves nothing behind when it is deleted', async () => {
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshotrestore', 'undo']);
    await rig.kubectl.run(['delete', '-n', namespace, '--all', 'snapshots.understudy.dev']);
    await rig.kubectl.run(['delete', '-n', namespace, '--all', 'standbymirrors,primaryvolumes']);
    await rig.expectNothingLeft();
  });
});
