import { afterEach, beforeEach, expect, test } from 'vitest';
import { kubeError } from '../../../operator/kube/kube-error.ts';
import { pods } from '../../../operator/resources/core-kinds.ts';
import { type Job, jobs } from '../../../operator/resources/job.ts';
import { type Snapshot, snapshots } from '../../../operator/resources/snapshot.ts';
import { type SnapshotSchedule, snapshotSchedules } from '../../../operator/resources/snapshot-schedule.ts';
import { JumpingClock } from '../../support/jumping-clock.ts';
import { mirrorYaml, podYaml, snapshotYaml } from '../../support/manifests.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

const minuteMs = 60_000;
const timeoutMs = 20_000;
const noon = Date.UTC(2026, 10, 24, 12, 0);

let clock: JumpingClock;
let rig: OperatorRig;
beforeEach(() => {
  clock = new JumpingClock(noon + minuteMs);
  rig = new OperatorRig({ clock });
  rig.cluster.wallTime = () => new Date(clock.wallTimeMs()).toISOString();
  rig.start();
});
afterEach(() => rig.stop());

function scheduleYaml(more = '', cron = '*/15 * * * *', template = ''): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: SnapshotSchedule
metadata: { name: often }
spec:
  cron: "${cron}"
  template: { source: { mirror: data-standby }${template} }
${more}`;
}

function at(minutes: number): void {
  clock.jumpTo(noon + minutes * minuteMs);
}

async function schedule(): Promise<SnapshotSchedule> {
  const found = await rig.api.get(snapshotSchedules, rig.key('often'));
  if (found === undefined) throw new Error('there is no schedule');
  return found;
}

async function names(): Promise<string[]> {
  return (await rig.api.list(snapshots)).items.map(({ metadata }) => metadata.name).sort();
}

async function ready(time: string): Promise<Snapshot> {
  await rig.waitForCondition(snapshots, `often-20261124-${time}`, 'Ready', 'True');
  return (await rig.snapshot(`often-20261124-${time}`)) as Snapshot;
}

async function history(expected: readonly string[]): Promise<void> {
  await waitFor(
    async () => {
      const shown = (await schedule()).status?.history?.map(
        ({ scheduledAt, outcome }) => `${scheduledAt.slice(11, 16)} ${outcome}`,
      );
      return JSON.stringify(shown) === JSON.stringify(expected);
    },
    { timeoutMs, what: `the history ${expected.join(', ')}` },
  );
}

test('a schedule takes snapshots at its times, and removes those that no rule asks for', async () => {
  await rig.mirroredVolume();
  await rig.apply(scheduleYaml('  retention: { keepLast: 2 }'));
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True', 'Scheduled');
  for (const [minutes, time] of [
    [15, '1215'],
    [30, '1230'],
    [45, '1245'],
  ] as const) {
    at(minutes);
    await ready(time);
  }
  await waitFor(async () => (await names()).length === 2, { timeoutMs });
  expect(await names()).toEqual(['often-20261124-1230', 'often-20261124-1245']);
  await history(['12:45 Taken', '12:30 Taken', '12:15 Taken']);
  await rig.waitForCondition(snapshotSchedules, 'often', 'UpToDate', 'True', 'Taken');
  expect((await schedule()).status).toMatchObject({ kept: 2, nextScheduleTime: '2026-11-24T13:00:00Z', places: 31 });
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  await waitFor(() => standby.snapshots.size === 2, { timeoutMs });
  expect(await rig.eventsOf('often')).toEqual(
    expect.arrayContaining([
      'SnapshotMade: Snapshot often-20261124-1215 is made for its time',
      'Pruned: Snapshot often-20261124-1215 is removed: no rule of the retention asks for it any more',
    ]),
  );
});

const jobYaml = `  job:
    onSuccess: Release
    template:
      spec:
        template:
          spec:
            restartPolicy: Never
            containers: [{ name: backup, image: backup, volumeMounts: [{ name: snapshot, mountPath: /data }] }]
`;

async function job(time: string): Promise<Job> {
  const name = `often-20261124-${time}`;
  await waitFor(async () => (await rig.api.get(jobs, rig.key(name))) !== undefined, { timeoutMs, what: `Job ${name}` });
  return (await rig.api.get(jobs, rig.key(name))) as Job;
}

/** As the Job controller does. */
async function endJob(time: string, type: 'Complete' | 'Failed'): Promise<void> {
  const status = { conditions: [{ type, status: 'True', message: 'told by a test' }] };
  await rig.api.patch(jobs, rig.key((await job(time)).metadata.name), { status }, { subresource: 'status' });
}

async function jobOutcomes(...expected: readonly string[]): Promise<void> {
  const shown = async () => (await schedule()).status?.history?.map((entry) => entry.job?.outcome).join();
  await waitFor(async () => (await shown()) === expected.join(), { timeoutMs, what: `the Jobs ${expected}` });
}

test('each snapshot is given to a Job: released when that succeeds, kept when it fails, and a lost one fails it', async () => {
  await rig.mirroredVolume();
  rig.bindClaims();
  await rig.apply(scheduleYaml(jobYaml));
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True', 'Scheduled');
  at(15);
  expect((await job('1215')).metadata.ownerReferences?.[0]?.uid).toBe((await ready('1215')).metadata.uid);
  await rig.restart();
  await endJob('1215', 'Complete');
  await rig.waitForGone(snapshots, 'often-20261124-1215');
  await rig.waitForGone(jobs, 'often-20261124-1215');
  at(30);
  await endJob('1230', 'Failed');
  await jobOutcomes('Failed', 'Succeeded');
  await rig.waitForCondition(snapshotSchedules, 'often', 'JobSucceeded', 'False', 'Failed');
  at(45);
  await job('1245');
  const { status } = await ready('1245');
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  const view = standby.snapshots.get(status?.snapshot ?? '');
  if (view === undefined) throw new Error('the agent has it');
  standby.snapshots.set(view.name, { ...view, state: 'Invalid', valid: false, reason: 'the buffer is full' });
  await rig.waitForGone(jobs, 'often-20261124-1245');
  await jobOutcomes('Failed', 'Failed', 'Succeeded');
  expect((await schedule()).status?.history?.[0]?.job?.message).toMatch(/lost its content: the buffer is full/);
  expect(await names()).toEqual(['often-20261124-1230', 'often-20261124-1245']);
});

test('an operator that has no right to Jobs takes the snapshots nevertheless, and says what it lacks', async () => {
  await rig.mirroredVolume();
  rig.api.intercept = ({ kind }) => {
    if (kind === 'Job') throw kubeError(403, 'Forbidden', 'jobs.batch is forbidden');
  };
  await rig.apply(scheduleYaml(jobYaml));
  await rig.waitForCondition(snapshotSchedules, 'often', 'JobSucceeded', 'Unknown', 'JobsNotSeen');
  at(15);
  await ready('1215');
  rig.api.intercept = () => {};
  await job('1215');
});

test('an operator that was away catches up with one, and one that was killed in the middle takes none twice', async () => {
  await rig.mirroredVolume();
  await rig.apply(scheduleYaml());
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True');
  // The status that says that it was made does not get through.
  rig.api.intercept = ({ verb, kind }) => {
    if (verb === 'patch' && kind === 'SnapshotSchedule') throw new Error('the connection is gone');
  };
  at(15);
  await waitFor(async () => (await names()).length === 1, { timeoutMs });
  expect((await schedule()).status?.lastScheduleTime).toBeUndefined();
  await rig.stop();
  rig.api.intercept = () => {};
  rig.start();
  await ready('1215');
  await history(['12:15 Taken']);
  await rig.stop();
  at(62);
  rig.start();
  await ready('1300');
  await history(['13:00 Taken', '12:45 Skipped', '12:15 Taken']);
  expect(await names()).toEqual(['often-20261124-1215', 'often-20261124-1300']);
});

test('two operators at a time take one for a time', async () => {
  await rig.mirroredVolume();
  const second = new OperatorRig({ clock, beside: rig });
  second.start();
  try {
    await rig.apply(scheduleYaml());
    await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True');
    for (const minutes of [15, 30, 45, 60]) {
      at(minutes);
      const time = minutes === 60 ? '1300' : `12${minutes}`;
      await ready(time);
    }
    expect(await names()).toEqual(['1215', '1230', '1245', '1300'].map((time) => `often-20261124-${time}`));
  } finally {
    await second.stop();
  }
});

test('what is read, at the agent or by a pod with its claim, stays until nobody does', async () => {
  await rig.mirroredVolume();
  await rig.apply(scheduleYaml('  retention: { keepLast: 1 }', '*/15 * * * *', ', claim: true'));
  rig.bindClaims();
  at(15);
  const { status } = await ready('1215');
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  const view = standby.snapshots.get(status?.snapshot ?? '');
  if (view === undefined) throw new Error('the agent has it');
  // The status does not say so yet when the next one comes.
  standby.snapshots.set(view.name, { ...view, readers: 1 });
  at(30);
  await ready('1230');
  await rig.waitForCondition(snapshots, 'often-20261124-1230', 'Claimed', 'True');
  await rig.apply(podYaml('backup', 'often-20261124-1230'));
  expect(await names()).toEqual(['often-20261124-1215', 'often-20261124-1230']);
  standby.snapshots.set(view.name, { ...view, readers: 0 });
  await rig.waitForGone(snapshots, 'often-20261124-1215');
  at(45);
  await ready('1245');
  await history(['12:45 Taken', '12:30 Taken', '12:15 Taken']);
  expect(await names()).toEqual(['often-20261124-1230', 'often-20261124-1245']);
  await rig.api.delete(pods, rig.key('backup'));
  await rig.waitForGone(snapshots, 'often-20261124-1230');
});

test('a mirror out of sync: one waits, the times meanwhile are left out, and it is taken when that is over', async () => {
  await rig.mirroredVolume();
  await rig.apply(scheduleYaml());
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True');
  rig.cluster.agent('node-b').down = true;
  at(15);
  await waitFor(async () => (await names()).length === 1, { timeoutMs });
  at(30);
  await history(['12:30 Skipped', '12:15 Taking']);
  await rig.waitForCondition(snapshotSchedules, 'often', 'UpToDate', 'False', 'Skipped');
  rig.cluster.agent('node-b').down = false;
  await history(['12:30 Skipped', '12:15 Taken']);
  at(45);
  await ready('1245');
  await rig.waitForCondition(snapshotSchedules, 'often', 'UpToDate', 'True');
});

test('snapshots survive their schedule, and one of the same name leaves them alone', async () => {
  await rig.mirroredVolume();
  await rig.apply(scheduleYaml('  retention: { keepLast: 1 }'));
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True');
  at(15);
  await ready('1215');
  await rig.api.delete(snapshotSchedules, rig.key('often'));
  await rig.waitForGone(snapshotSchedules, 'often');
  await rig.apply(scheduleYaml('  retention: { keepLast: 1 }'));
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True');
  for (const [minutes, time] of [
    [30, '1230'],
    [45, '1245'],
  ] as const) {
    at(minutes);
    await ready(time);
  }
  await rig.waitForGone(snapshots, 'often-20261124-1230');
  expect(await names()).toEqual(['often-20261124-1215', 'often-20261124-1245']);
});

test('the limit of the buffer is kept, with what others made and the next one counted in', async () => {
  await rig.applyQuickstart('nodepools', 'primary-volume');
  await rig.apply(mirrorYaml('data-standby', 'data', 'node-b', 4));
  await rig.apply(snapshotYaml('by-hand', 'data-standby'));
  await rig.waitForCondition(snapshots, 'by-hand', 'Ready', 'True');
  await rig.apply(scheduleYaml('  retention: { hourly: 24 }', '@hourly'));
  for (let hour = 13; hour < 19; hour += 1) {
    at((hour - 12) * 60);
    await ready(`${hour}00`);
  }
  await waitFor(async () => (await names()).length === 3, { timeoutMs });
  expect(await names()).toEqual(['by-hand', 'often-20261124-1700', 'often-20261124-1800']);
  await rig.waitForCondition(snapshotSchedules, 'often', 'RetentionFits', 'False', 'TooManyForBuffer');
  expect(rig.cluster.agent('node-b').mostSnapshots).toBeLessThanOrEqual(4);
});

test('32 overlapping snapshots, one each quarter of an hour, for more than a day', async () => {
  await rig.applyQuickstart('nodepools', 'primary-volume');
  await rig.apply(mirrorYaml('data-standby', 'data', 'node-b', 33));
  await rig.apply(scheduleYaml('  retention: { keepLast: 32 }'));
  await rig.waitForCondition(snapshotSchedules, 'often', 'Ready', 'True', 'Scheduled');
  const standby = rig.cluster.agent('node-b').volume(await rig.agentVolume());
  for (let quarter = 1; quarter <= 130; quarter += 1) {
    clock.jumpTo(noon + 15 * quarter * minuteMs);
    const time = new Date(noon + 15 * quarter * minuteMs).toISOString().slice(0, 19);
    const kept = Math.min(quarter, 32);
    await waitFor(
      async () => {
        const { status } = await schedule();
        const [newest] = status?.history ?? [];
        return newest?.scheduledAt === `${time}Z` && newest.outcome === 'Taken' && status?.kept === kept;
      },
      { timeoutMs, what: `the snapshot of ${time}` },
    );
  }
  expect(standby.snapshots.size).toBe(32);
  expect(rig.cluster.agent('node-b').mostSnapshots).toBe(33);
  expect((await schedule()).status?.history?.map(({ outcome }) => outcome)).toEqual(Array(10).fill('Taken'));
});
