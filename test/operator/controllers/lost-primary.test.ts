import { afterEach, expect, test } from 'vitest';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
afterEach(() => rig.stop());

test('once a promotion has begun, nobody waits again for the agent of the lost primary', async () => {
  rig = new OperatorRig();
  rig.useArbiter();
  rig.start();
  await rig.mirroredVolumeWithSnapshot();
  await rig.waitForCondition(primaryVolumes, 'data', 'Protected', 'True');
  const failover = { policy: 'Automatic', after: '1ms' };
  await rig.api.patch(standbyMirrors, rig.key('data-standby'), { spec: { failover } });

  const [lost, next] = [rig.cluster.agent('node-a'), rig.cluster.agent('node-b')];
  const steps: string[] = [];
  const [look, prepare, put] = [lost.getVolume, next.prepare, next.putVolume];
  lost.getVolume = (...args) => {
    steps.push('look at the lost one');
    return look.apply(lost, args);
  };
  next.prepare = (...args) => {
    steps.push('prepare');
    return prepare.apply(next, args);
  };
  next.putVolume = (...args) => {
    steps.push(`put ${args[1].role}`);
    return put.apply(next, args);
  };
  lost.down = true;
  await waitFor(() => steps.includes('put primary'), { timeoutMs: 20_000, what: 'the promotion' });
  expect(steps.slice(steps.indexOf('prepare'), steps.indexOf('put primary') + 1)).toEqual(['prepare', 'put primary']);
});
