import { afterEach, expect, test } from 'vitest';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../operator/resources/snapshot-restore.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { mirror, snapshot } from '../kubernetes/support/manifests.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { OperatedAgents } from './operated.ts';

const mib = 1024 * 1024;
const timeoutMs = 90_000;

let cluster: OperatedAgents;
afterEach(() => cluster?.stop());

/** A mirrored volume of which 8 MiB are ones in the Snapshot "good", and twos since. */
async function damaged(): Promise<{ readonly name: string; readonly nbd: string; readonly good: Buffer }> {
  cluster = await OperatedAgents.start(2 * mib);
  await cluster.mirrored();
  const [primary] = await cluster.agents.a.volumes();
  const { volume: name = '', nbd: socket = '' } = primary ?? {};
  const nbd = await NbdTestClient.connect(socket, { exportName: name });
  const good = Buffer.alloc(8 * mib, 1);
  for (let at = 0; at < good.length; at += mib) await nbd.write(at, good.subarray(at, at + mib));
  await cluster.apply(snapshot('default', 'good', 'copy', { claim: false }));
  await cluster.reaches(snapshots, 'good', 'Ready');
  for (let at = 0; at < good.length; at += mib) await nbd.write(at, Buffer.alloc(mib, 2));
  await nbd.flush();
  nbd.close();
  await waitFor(async () => !(await cluster.agents.a.volumes())[0]?.attached, { timeoutMs });
  return { name, nbd: socket, good };
}

function order(name: string, more: object = {}) {
  const spec = { snapshot: 'good', ...more };
  return {
    apiVersion: 'understudy.dev/v1alpha1',
    kind: 'SnapshotRestore',
    metadata: { name, namespace: 'default' },
    spec,
  };
}

test('a restore goes on when the operator and the agent of the primary are killed in the middle of it', async () => {
  const { name, nbd, good } = await damaged();
  const { a, b } = cluster.agents;
  const connect = () => NbdTestClient.connect(nbd, { exportName: name });
  await cluster.apply(order('undo'));
  await cluster.reaches(snapshotRestores, 'undo', 'Ready', 'Restoring');
  await waitFor(async () => ((await a.volumes())[0]?.restore?.writtenBytes ?? 0) >= mib, { timeoutMs });
  await cluster.stopOperator();
  await a.kill();
  await a.start();
  await expect(connect()).rejects.toThrow(/restore/);
  cluster.startOperator();
  const done = await cluster.reaches(snapshotRestores, 'undo', 'Ready');
  expect(done.status).toMatchObject({ node: 'node-a', before: 'before-restore-undo', progress: { percent: 100 } });

  const after = await connect();
  expect((await after.read(0, good.length)).equals(good)).toBe(true);
  after.close();
  const [standby] = await b.volumes();
  const kept = await cluster.reaches(snapshots, 'before-restore-undo', 'Ready');
  const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName: `${name}@${kept.status?.snapshot}` });
  expect((await reader.read(0, good.length)).equals(Buffer.alloc(good.length, 2))).toBe(true);
  reader.close();
});

test('a new volume is used while it is filled, though the primary of the snapshot is lost and the operator killed', async () => {
  const { good } = await damaged();
  const { a, b } = cluster.agents;
  const newVolume = { name: 'data-copy', nodeName: 'node-b', size: '24Mi', claim: false };
  await a.kill();
  await cluster.apply(order('again', { newVolume }));
  await cluster.reaches(snapshotRestores, 'again', 'Ready', 'Filling');
  const made = await cluster.reaches(primaryVolumes, 'data-copy', 'Ready');
  const name = made.status?.volume ?? '';
  const nbd = await NbdTestClient.connect(made.status?.nbd ?? '', { exportName: name });
  expect(nbd.size).toBe(24 * mib);
  expect((await nbd.read(7 * mib, mib)).equals(good.subarray(7 * mib))).toBe(true);
  await nbd.write(3 * mib + 4096, Buffer.alloc(4096, 9));
  good.fill(9, 3 * mib + 4096, 3 * mib + 8192);
  nbd.close();
  await cluster.stopOperator();
  await b.kill();
  await b.start();
  await a.start();
  cluster.startOperator();
  await cluster.apply(mirror('default', 'copy-of-copy', 'data-copy', { nodeName: 'node-a', claim: false }));
  await cluster.reaches(standbyMirrors, 'copy-of-copy', 'InSync');
  const done = await cluster.reaches(snapshotRestores, 'again', 'Ready', 'Restored');
  expect(done.status).toMatchObject({ primaryVolume: 'data-copy', node: 'node-b', progress: { percent: 100 } });
  await cluster.reaches(primaryVolumes, 'data-copy', 'Filled');

  const after = await NbdTestClient.connect(made.status?.nbd ?? '', { exportName: name });
  expect((await after.read(0, good.length)).equals(good)).toBe(true);
  expect((await after.read(23 * mib, mib)).equals(Buffer.alloc(mib))).toBe(true);
  after.close();
  await cluster.api.delete(snapshots, { namespace: 'default', name: 'good' });
  await waitFor(async () => (await cluster.api.get(snapshots, { namespace: 'default', name: 'good' })) === undefined, {
    timeoutMs,
  });
});
