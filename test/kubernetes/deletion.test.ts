import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { namespaces } from '../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { messageOf, type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

const everyObject = ['primaryvolume/data', 'standbymirror/copy', 'snapshot/now'] as const;

const orders = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
].map((order) => order.map((index) => everyObject[index] ?? ''));

describe.skipIf('unavailable' in plane)('deletion', () => {
  let rig: Rig;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
  });

  afterAll(() => rig?.remove());

  /** A volume, its mirror and a snapshot, all Ready, in a namespace of their own. */
  async function everything(): Promise<string> {
    const namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'), snapshot(namespace, 'now', 'copy'));
    await rig.reaches(snapshots, namespace, 'now', { type: 'Ready', status: 'True' });
    return namespace;
  }

  async function allVanish(namespace: string): Promise<void> {
    await rig.vanishes(snapshots, namespace, 'now');
    await rig.vanishes(standbyMirrors, namespace, 'copy');
    await rig.vanishes(primaryVolumes, namespace, 'data');
  }

  async function askToDelete(namespace: string, objects: readonly string[]): Promise<void> {
    await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', ...objects]);
  }

  test('in any order takes everything, and nothing is left at the agents', async () => {
    const made = await Promise.all(orders.map(async (order) => ({ order, namespace: await everything() })));
    await Promise.all(
      made.map(async ({ order, namespace }) => {
        for (const object of order) await askToDelete(namespace, [object]);
        await allVanish(namespace);
      }),
    );
    await rig.expectNothingLeft();
  });

  test('of the namespace takes everything, and the namespace goes too', async ({ skip }) => {
    skip(!sharedControlPlane().hasControllerManager, 'the control plane has no controller manager');
    const namespace = await everything();
    await rig.kubectl.run(['delete', 'namespace', '--wait=false', namespace]);
    await rig.vanishes(namespaces, undefined, namespace);
    await rig.expectNothingLeft();
  });

  test('in the middle of the creation takes everything too', async () => {
    // Each deleted a little later than the one before, so that they are caught at different steps.
    const delaysMs = [0, 50, 150, 300, 600, 1_000, 1_500, 2_500];
    const begun = await Promise.all(
      delaysMs.map(async (delayMs) => {
        const namespace = await rig.namespace();
        await rig.apply(
          volume(namespace, 'data'),
          mirror(namespace, 'copy', 'data'),
          snapshot(namespace, 'now', 'copy'),
        );
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await askToDelete(namespace, everyObject);
        return namespace;
      }),
    );
    await Promise.all(begun.map(allVanish));
    await rig.expectNothingLeft();
  });

  test('waits for an agent that is down, and says so', async () => {
    const namespace = await everything();
    await rig.agents.b.kill();
    try {
      await askToDelete(namespace, everyObject);
      const blocked = { type: 'DeletionBlocked', status: 'True', reason: 'AgentUnreachable' } as const;
      const waiting = await rig.reaches(snapshots, namespace, 'now', blocked);
      expect(messageOf(waiting, 'DeletionBlocked')).toMatch(/node-b.*understudy\.dev\/abandon=true/);
    } finally {
      await rig.agents.b.start();
    }
    await allVanish(namespace);
    await rig.expectNothingLeft();
  });

  test('can be forced when an agent does not come back', async () => {
    const namespace = await everything();
    await rig.agents.b.kill();
    try {
      await askToDelete(namespace, everyObject);
      await rig.kubectl.run(['annotate', '-n', namespace, ...everyObject, 'understudy.dev/abandon=true']);
      await allVanish(namespace);
    } finally {
      await rig.agents.b.start();
    }
    expect(await rig.agents.a.volumes()).toEqual([]);
    // What was given up is still at the agent, for whoever cleans up by hand.
    const [left, ...more] = await rig.agents.b.volumes();
    expect(more).toEqual([]);
    await rig.agents.b.deleteVolume(left?.volume ?? '');
    await rig.expectNothingLeft();
  });
});
