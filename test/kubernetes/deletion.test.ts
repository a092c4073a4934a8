import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

const orders = [
  ['primaryvolume/data', 'standbymirror/copy', 'snapshot/now'],
  ['primaryvolume/data', 'snapshot/now', 'standbymirror/copy'],
  ['standbymirror/copy', 'primaryvolume/data', 'snapshot/now'],
  ['standbymirror/copy', 'snapshot/now', 'primaryvolume/data'],
  ['snapshot/now', 'primaryvolume/data', 'standbymirror/copy'],
  ['snapshot/now', 'standbymirror/copy', 'primaryvolume/data'],
];

describe.skipIf('unavailable' in plane)('deletion', () => {
  let rig: Rig;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
  });

  afterAll(() => rig?.remove());

  /** A volume, its mirror and a snapshot, all Ready. */
  async function everything(): Promise<string> {
    const namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches('standbymirror', 'copy', namespace, { type: 'InSync', status: 'True' });
    await rig.apply(snapshot(namespace, 'now', 'copy'));
    await rig.reaches('snapshot', 'now', namespace, { type: 'Ready', status: 'True' });
    return namespace;
  }

  async function allVanish(namespace: string): Promise<void> {
    await rig.vanishes('snapshot', 'now', namespace);
    await rig.vanishes('standbymirror', 'copy', namespace);
    await rig.vanishes('primaryvolume', 'data', namespace);
  }

  test('in any order takes everything, and nothing is left at the agents', async () => {
    const namespaces = await Promise.all(orders.map(everything));
    await Promise.all(
      orders.map(async (order, index) => {
        const namespace = namespaces[index] ?? '';
        for (const object of order) await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', object]);
        await allVanish(namespace);
      }),
    );
    await rig.expectNothingLeft();
  });

  test('of the namespace takes everything, and the namespace goes too', async ({ skip }) => {
    skip(!sharedControlPlane().hasControllerManager, 'the control plane has no controller manager');
    const namespace = await everything();
    await rig.kubectl.run(['delete', 'namespace', '--wait=false', namespace]);
    await rig.vanishes('namespace', namespace, undefined);
    await rig.expectNothingLeft();
  });

  test('in the middle of the creation takes everything too', async () => {
    // Each deleted a little later than the one before, so that they are caught at different steps.
    const rounds = await Promise.all(
      [0, 150, 300, 600, 1_000, 1_500, 2_500, 4_000].map(async (delayMs) => {
        const namespace = await rig.namespace();
        await rig.apply(
          volume(namespace, 'data'),
          mirror(namespace, 'copy', 'data'),
          snapshot(namespace, 'now', 'copy'),
        );
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', ...(orders[0] ?? [])]);
        return namespace;
      }),
    );
    await Promise.all(rounds.map(allVanish));
    await rig.expectNothingLeft();
  });

  test('waits for an agent that is down, and says so', async () => {
    const namespace = await everything();
    await rig.agents.b.kill();
    try {
      await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', ...(orders[0] ?? [])]);
      const blocked = { type: 'DeletionBlocked', status: 'True', reason: 'AgentUnreachable' } as const;
      const waiting = await rig.reaches('snapshot', 'now', namespace, blocked);
      expect(JSON.stringify(waiting.status)).toContain('node-b');
    } finally {
      await rig.agents.b.start();
    }
    await allVanish(namespace);
    await rig.expectNothingLeft();
  });

  test('can be forced when an agent never comes back', async () => {
    const namespace = await everything();
    await rig.agents.b.kill();
    try {
      await rig.kubectl.run(['delete', '-n', namespace, '--wait=false', ...(orders[0] ?? [])]);
      await rig.kubectl.run(['annotate', '-n', namespace, 'understudy.dev/abandon=true', ...(orders[0] ?? [])]);
      await allVanish(namespace);
    } finally {
      await rig.agents.b.start();
    }
    expect(await rig.agents.a.volumes()).toEqual([]);
    // What was given up is still at the agent, for whoever cleans up by hand.
    for (const { volume } of await rig.agents.b.volumes()) await rig.agents.b.deleteVolume(volume);
    await rig.expectNothingLeft();
  });
});
