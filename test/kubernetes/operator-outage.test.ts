import { afterAll, beforeAll, describe, inject, test } from 'vitest';
import type { ControlPlane } from './control-plane/handle.ts';
import { startControlPlane } from './control-plane.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const shared = inject('controlPlane');

/** Has a control plane of its own, since the others should not notice. */
describe.skipIf('unavailable' in shared)('an operator whose API server goes away', () => {
  let plane: ControlPlane | undefined;
  let rig: Rig | undefined;

  beforeAll(async () => {
    const started = await startControlPlane();
    if ('unavailable' in started) throw new Error(started.unavailable);
    plane = started;
    if (plane.apiServer !== undefined) rig = await startRig(plane);
  });

  afterAll(async () => {
    await rig?.remove();
    await plane?.stop();
  });

  test('goes on by itself when it is back, with what was begun and with what comes later', async ({ skip }) => {
    const apiServer = plane?.apiServer;
    if (rig === undefined || apiServer === undefined) return skip('the API server is no process of ours');
    const namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'), snapshot(namespace, 'now', 'copy'));

    await apiServer.kill();
    await apiServer.start();

    await rig.reaches('standbymirror', 'copy', namespace, { type: 'InSync', status: 'True' });
    await rig.reaches('snapshot', 'now', namespace, { type: 'Ready', status: 'True' });

    await rig.apply(snapshot(namespace, 'later', 'copy'));
    await rig.reaches('snapshot', 'later', namespace, { type: 'Ready', status: 'True' });
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', 'snapshot/now', 'snapshot/later']);
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', 'standbymirror/copy', 'primaryvolume/data']);
    await rig.vanishes('primaryvolume', 'data', namespace);
    await rig.expectNothingLeft();
  });
});
