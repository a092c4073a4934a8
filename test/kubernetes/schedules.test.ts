import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { waitFor } from '../support/wait-for.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { mirror, schedule, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('a SnapshotSchedule', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
    namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches(standbyMirrors, namespace, 'copy', { type: 'InSync', status: 'True' });
  });

  afterAll(() => rig?.remove());

  test('that is wrong is told so', async () => {
    await rig.apply(schedule(namespace, 'wrong', 'copy', { cron: 'now and then' }));
    const invalid = { type: 'Ready', status: 'False', reason: 'Invalid' } as const;
    const { status } = await rig.reaches(snapshotSchedules, namespace, 'wrong', invalid);
    expect(status?.conditions?.[0]?.message).toMatch(/spec\.cron: expected a cron pattern.*"now and then"/);
  });

  test('makes one snapshot for a time, although the operator is killed around it', async () => {
    await rig.apply(schedule(namespace, 'each-minute', 'copy', { retention: { keepLast: 1 } }));
    const scheduled = { type: 'Ready', status: 'True', reason: 'Scheduled' } as const;
    const { status } = await rig.reaches(snapshotSchedules, namespace, 'each-minute', scheduled);
    const own = async () => (await rig.api.list(snapshots, { namespace })).items;
    const first = Date.parse(status?.nextScheduleTime ?? '');
    await waitFor(async () => (await own()).length > 0, { timeoutMs: 90_000, intervalMs: 5 });
    await rig.operator.kill();
    await rig.operator.start();
    const name = `each-minute-${new Date(first).toISOString().slice(0, 16).replace(/-|:/g, '').replace('T', '-')}`;
    await rig.reaches(snapshots, namespace, name, { type: 'Ready', status: 'True' });
    await rig.reaches(snapshotSchedules, namespace, 'each-minute', { type: 'UpToDate', status: 'True' });
    const times = (await own()).map(({ metadata }) => metadata.annotations?.['understudy.dev/scheduled-at']);
    expect(new Set(times).size).toBe(times.length);
    const row = await rig.kubectl.run(['get', '-n', namespace, 'snapshotschedule', 'each-minute']);
    expect(row).toMatch(/NAME +CRON +MIRROR +SUSPEND +LAST +NEXT +KEPT +UPTODATE +AGE/);
    expect(row).toMatch(/each-minute +\* \* \* \* \* +copy +false +\d+s +\S+Z +1 +True/);
  });

  test('what it made outlives it, and goes by its label', async () => {
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshotschedule', '--all']);
    expect((await rig.api.list(snapshots, { namespace })).items).not.toEqual([]);
    const mine = ['-l', 'understudy.dev/schedule=each-minute'];
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshots.understudy.dev', ...mine]);
    expect((await rig.api.list(snapshots, { namespace })).items).toEqual([]);
  });
});
