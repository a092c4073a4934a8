import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { projectDirectory } from './control-plane.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { snapshot } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');
const examples = join(projectDirectory, 'examples', 'quickstart');

describe.skipIf('unavailable' in plane)('the quick start', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
    namespace = await rig.namespace();
  });

  afterAll(() => rig?.remove());

  test('reaches Ready with nothing but kubectl apply', async () => {
    await rig.kubectl.run(['apply', '-n', namespace, '-f', examples]);

    await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Ready', status: 'True' });
    await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Protected', status: 'True' });
    await rig.reaches(standbyMirrors, namespace, 'data-standby', { type: 'InSync', status: 'True' });
    await rig.reaches(snapshots, namespace, 'data-before-upgrade', { type: 'Ready', status: 'True' });
  });

  test('kubectl get shows where things are, and whether they are in sync', async () => {
    const row = async (kind: string) => {
      const [header = '', line = ''] = (await rig.kubectl.run(['get', '-n', namespace, kind])).split('\n');
      const starts = [...header.matchAll(/\S+/g)].map(({ 0: name, index }) => ({ name, index }));
      return Object.fromEntries(
        starts.map(({ name, index }, n) => [name, line.slice(index, starts[n + 1]?.index).trim()]),
      );
    };
    expect(await row('primaryvolume')).toMatchObject({
      NAME: 'data',
      NODE: 'node-a',
      SIZE: '1Gi',
      READY: 'True',
      PROTECTED: 'True',
    });
    expect(await row('standbymirror')).toMatchObject({
      NAME: 'data-standby',
      VOLUME: 'data',
      NODE: 'node-b',
      STATE: 'InSync',
      INSYNC: 'True',
    });
    expect(await row('snapshot.understudy.dev')).toMatchObject({
      NAME: 'data-before-upgrade',
      MIRROR: 'data-standby',
      NODE: 'node-b',
      READY: 'True',
    });
  });

  test('a snapshot, read at the standby, holds what the primary held', async () => {
    const { status } = await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Ready', status: 'True' });
    const [standby] = await rig.agents.b.volumes();
    const name = status?.volume ?? '';
    const [before, after] = [randomBytes(300 * 1024), randomBytes(300 * 1024)];
    const offset = 40 * 1024;

    const primary = await NbdTestClient.connect(status?.nbd ?? '', { exportName: name });
    await primary.write(offset, before);
    await rig.apply(snapshot(namespace, 'written', 'data-standby'));
    const taken = await rig.reaches(snapshots, namespace, 'written', { type: 'Ready', status: 'True' });
    await primary.write(offset, after);
    await primary.flush();

    const exportName = `${name}@${taken.status?.snapshot}`;
    const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName });
    expect((await reader.read(offset, before.length)).equals(before)).toBe(true);
    const earlier = await rig.api.get(snapshots, { namespace, name: 'data-before-upgrade' });
    const blank = await NbdTestClient.connect(standby?.nbd ?? '', {
      exportName: `${name}@${earlier?.status?.snapshot}`,
    });
    expect((await blank.read(offset, before.length)).equals(Buffer.alloc(before.length))).toBe(true);
    expect((await primary.read(offset, after.length)).equals(after)).toBe(true);
    for (const client of [primary, reader, blank]) client.channel.close();
  });

  test('kubectl delete of the same files takes everything away', async () => {
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshot.understudy.dev/written']);
    await rig.kubectl.run(['delete', '-n', namespace, '-f', examples]);
    await rig.expectNothingLeft();
  });
});
