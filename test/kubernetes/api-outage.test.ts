import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { systemClock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { startReflector } from '../../operator/kube/reflector.ts';
import { type NodePool, nodePools } from '../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { waitFor } from '../support/wait-for.ts';
import type { ApiServerProcess, ControlPlane } from './control-plane/handle.ts';
import { startControlPlane } from './control-plane.ts';
import { installCrds } from './support/crds.ts';
import { kubeApiOf } from './support/kube-api-of.ts';
import { kubectlOf } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { startRig } from './support/rig.ts';

const shared = inject('controlPlane');
/** Another one like the shared one can be started only where it is made of processes of ours. */
const isPossible = 'isOurs' in shared && shared.isOurs;

/** Has a control plane of its own, since the others should not notice. */
describe.runIf(isPossible)('when the API server goes away', () => {
  let plane: ControlPlane;
  let api: KubeApi;
  let apiServer: ApiServerProcess;

  beforeAll(async () => {
    const started = await startControlPlane();
    if ('unavailable' in started || started.apiServer === undefined) throw new Error('expected a second control plane');
    plane = started;
    apiServer = started.apiServer;
    await installCrds(kubectlOf(plane), plane.version);
    api = kubeApiOf(plane);
  });

  afterAll(() => plane?.stop());

  const createPool = (name: string) =>
    api.create(nodePools, {
      apiVersion: 'understudy.dev/v1alpha1',
      kind: 'NodePool',
      metadata: { name },
      spec: { node: 'node-x', name: 'main', directory: '/srv', purpose: 'volumes' },
    });

  /** Follows the pools, and keeps what it was told. */
  function follow(idleTimeoutMs: number) {
    const seen = new Map<string, NodePool>();
    const restarts: unknown[] = [];
    const reflector = startReflector({
      api,
      resource: nodePools,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      idleTimeoutMs,
      onList: (items) => {
        seen.clear();
        for (const item of items) seen.set(item.metadata.name, item);
      },
      onChange: (type, object) => {
        if (type === 'DELETED') seen.delete(object.metadata.name);
        else seen.set(object.metadata.name, object);
      },
      onRestart: (error) => restarts.push(error),
    });
    return { seen, restarts, stop: reflector.stop };
  }

  test('a watch goes on after it was killed and started again, and misses nothing', async () => {
    const follower = follow(150_000);
    try {
      await createPool('before');
      await waitFor(() => follower.seen.has('before'), { timeoutMs: 10_000 });

      await apiServer.kill();
      await waitFor(() => follower.restarts.length > 0, { timeoutMs: 10_000 });
      await apiServer.start();
      await createPool('after');
      await api.delete(nodePools, { name: 'before' });

      await waitFor(() => follower.seen.has('after') && !follower.seen.has('before'), { timeoutMs: 45_000 });
    } finally {
      await follower.stop();
    }
  });

  test('a watch on which nothing comes any more is begun anew', async () => {
    const follower = follow(3_000);
    try {
      await createPool('first');
      await waitFor(() => follower.seen.has('first'), { timeoutMs: 10_000 });
      follower.restarts.length = 0;

      // Connections stay open and say nothing, as when a machine hangs or a cable is cut.
      apiServer.pause();
      await waitFor(() => follower.restarts.length > 0, { timeoutMs: 20_000 });
      apiServer.resume();
      await createPool('second');

      await waitFor(() => follower.seen.has('second'), { timeoutMs: 45_000 });
      expect(follower.seen.has('first')).toBe(true);
    } finally {
      apiServer.resume();
      await follower.stop();
    }
  });

  test('an operator goes on by itself, with what was begun and with what comes later', async () => {
    const rig = await startRig(plane);
    try {
      const namespace = await rig.namespace();
      await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'), snapshot(namespace, 'now', 'copy'));

      await apiServer.kill();
      await apiServer.start();

      await rig.reaches(standbyMirrors, namespace, 'copy', { type: 'InSync', status: 'True' });
      await rig.reaches(snapshots, namespace, 'now', { type: 'Ready', status: 'True' });

      await rig.apply(snapshot(namespace, 'later', 'copy'));
      await rig.reaches(snapshots, namespace, 'later', { type: 'Ready', status: 'True' });
      await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', '--all', 'primaryvolumes,standbymirrors']);
      await rig.kubectl.run(['delete', '-n', namespace, '--all', 'snapshots.understudy.dev']);
      await rig.vanishes(primaryVolumes, namespace, 'data');
      await rig.expectNothingLeft();
    } finally {
      await rig.remove();
    }
  });
});
