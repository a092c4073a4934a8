import { afterEach, expect, test } from 'vitest';
import { pods } from '../../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
afterEach(() => rig.stop());

test('the pod on the node of a lost primary is deleted after the promotion, and nobody else is', async () => {
  rig = new OperatorRig();
  rig.useArbiter();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'True');
  const failover = { policy: 'Automatic', after: '1ms', evictPods: true };
  await rig.api.patch(standbyMirrors, rig.key('data-standby'), { spec: { failover } });
  for (const [name, claim] of Object.entries({ database: 'data', other: 'other' })) {
    await rig.api.create(pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'shop' },
      spec: { nodeName: 'node-a', volumes: [{ name: 'v', persistentVolumeClaim: { claimName: claim } }] },
    });
  }
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  const rolesAtDeletion: string[] = [];
  rig.api.intercept = ({ verb, kind }) => {
    if (verb === 'delete' && kind === 'Pod') rolesAtDeletion.push(standby.spec.role);
  };
  rig.cluster.agent('node-a').down = true;
  await waitFor(async () => (await rig.api.get(pods, rig.key('database'))) === undefined, { timeoutMs: 20_000 });
  expect(rolesAtDeletion).toEqual(['primary']);
  expect((await rig.volume())?.status).toMatchObject({ node: 'node-b', epoch: 2 });
  expect(await rig.api.get(pods, rig.key('other'))).toBeDefined();
  await waitFor(async () => (await rig.eventsOf('data')).some((event) => event.includes('pod database was deleted')), {
    timeoutMs: 5_000,
  });
});
