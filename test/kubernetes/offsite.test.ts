/** A third copy at another place, behind the standby, declared with nothing but the example's files. */
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
const example = (name: string) => join(projectDirectory, 'examples', name);

describe.skipIf('unavailable' in plane)('an archive at another place', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane(), ['node-c']);
    namespace = await rig.namespace();
  });

  afterAll(() => rig?.remove());

  test('follows behind the standby, and says how far', async () => {
    await rig.kubectl.run(['apply', '-n', namespace, '-f', example('quickstart')]);
    await rig.kubectl.run(['apply', '-n', namespace, '-f', example('offsite-archive')]);
    await rig.reaches(standbyMirrors, namespace, 'data-standby', { type: 'InSync', status: 'True' });
    const { status } = await rig.reaches(standbyMirrors, namespace, 'data-archive', { type: 'Ready', status: 'True' });
    expect(status).toMatchObject({ node: 'node-c', lagBytes: expect.any(Number), lagSeconds: expect.any(Number) });
    await rig.reaches(snapshots, namespace, 'data-archived', { type: 'Ready', status: 'True' });
    const [volume] = await rig.agents.b.volumes();
    expect(volume?.mirrors).toMatchObject([
      { name: 'data-archive', mode: 'asynchronous', compression: 'zstd', resyncBytesPerSecond: 20 * 2 ** 20 },
    ]);
  });

  test('a snapshot that is taken there holds what the primary held', async () => {
    const { status } = await rig.reaches(primaryVolumes, namespace, 'data', { type: 'Ready', status: 'True' });
    const name = status?.volume ?? '';
    const written = randomBytes(300 * 1024);
    const primary = await NbdTestClient.connect(status?.nbd ?? '', { exportName: name });
    await primary.write(40 * 1024, written);
    await rig.apply(snapshot(namespace, 'written', 'data-archive'));
    const taken = await rig.reaches(snapshots, namespace, 'written', { type: 'Ready', status: 'True' });
    expect(taken.status?.node).toBe('node-c');
    await primary.write(40 * 1024, randomBytes(300 * 1024));
    const [archive] = (await rig.agents.others[0]?.volumes()) ?? [];
    const exportName = `${name}@${taken.status?.snapshot}`;
    const reader = await NbdTestClient.connect(archive?.nbd ?? '', { exportName });
    expect((await reader.read(40 * 1024, written.length)).equals(written)).toBe(true);
    for (const client of [primary, reader]) client.channel.close();
  });

  test('kubectl delete of the same files takes everything away, whichever goes first', async () => {
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshot.understudy.dev/written']);
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', '-f', example('quickstart')]);
    await rig.kubectl.run(['delete', '-n', namespace, '-f', example('offsite-archive')]);
    await rig.vanishes(primaryVolumes, namespace, 'data');
    await rig.expectNothingLeft();
  });
});
