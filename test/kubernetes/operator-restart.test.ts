import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('an operator that is killed and started again', () => {
  let rig: Rig;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
  });

  afterAll(() => rig?.remove());

  test('goes on where it was: everything is made, and once only', async () => {
    const namespace = await rig.namespace();
    const names = ['one', 'two', 'three', 'four'];
    await rig.apply(
      ...names.flatMap((name) => [
        volume(namespace, name),
        mirror(namespace, name, name),
        snapshot(namespace, name, name),
      ]),
    );
    // Somewhere in the middle of creating them, twice.
    for (const delayMs of [200, 700]) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await rig.operator.kill();
      await rig.operator.start();
    }

    for (const name of names) {
      await rig.reaches(primaryVolumes, namespace, name, { type: 'Ready', status: 'True' });
      await rig.reaches(standbyMirrors, namespace, name, { type: 'InSync', status: 'True' });
      await rig.reaches(snapshots, namespace, name, { type: 'Ready', status: 'True' });
    }
    expect((await rig.agents.a.volumes()).map(({ role }) => role)).toEqual(names.map(() => 'primary'));
    const standbys = await rig.agents.b.volumes();
    expect(standbys.map(({ role, snapshots }) => [role, snapshots.length])).toEqual(names.map(() => ['standby', 1]));

    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', '--all', 'snapshots.understudy.dev']);
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', '--all', 'standbymirrors,primaryvolumes']);
    for (const name of names) await rig.vanishes(primaryVolumes, namespace, name);
    await rig.expectNothingLeft();
  });

  test('removes what was deleted while it was away', async () => {
    const namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches(standbyMirrors, namespace, 'copy', { type: 'InSync', status: 'True' });
    await rig.operator.kill();

    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', 'primaryvolume/data', 'standbymirror/copy']);
    expect(await rig.api.get(primaryVolumes, { namespace, name: 'data' })).toBeDefined();
    await rig.operator.start();

    await rig.vanishes(primaryVolumes, namespace, 'data');
    await rig.expectNothingLeft();
  });
});
