import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
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
    for (const delayMs of [300, 900]) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await rig.operator.kill();
      await rig.operator.start();
    }

    for (const name of names) {
      await rig.reaches('primaryvolume', name, namespace, { type: 'Ready', status: 'True' });
      await rig.reaches('standbymirror', name, namespace, { type: 'InSync', status: 'True' });
      await rig.reaches('snapshot', name, namespace, { type: 'Ready', status: 'True' });
    }
    expect(await rig.agents.a.volumes()).toHaveLength(names.length);
    const standbys = await rig.agents.b.volumes();
    expect(standbys.map(({ snapshots }) => snapshots.length)).toEqual(names.map(() => 1));

    await rig.kubectl.run(['delete', 'namespace', '--wait=false', namespace]);
    for (const name of names) await rig.vanishes('primaryvolume', name, namespace);
    await rig.expectNothingLeft();
  });

  test('deletes what was deleted while it was away', async () => {
    const namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches('standbymirror', 'copy', namespace, { type: 'InSync', status: 'True' });
    await rig.operator.kill();

    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', 'primaryvolume/data', 'standbymirror/copy']);
    expect(await rig.kubectl.get('primaryvolume', 'data', namespace)).toBeDefined();
    await rig.operator.start();

    await rig.vanishes('primaryvolume', 'data', namespace);
    await rig.expectNothingLeft();
  });
});
