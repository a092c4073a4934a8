import { describe, expect, test } from 'vitest';
import { keepAnnotation } from '../../../operator/resources/group.ts';
import { snapshotSchedules } from '../../../operator/resources/snapshot-schedule.ts';
import { describeViolations, validateSpec } from '../../../operator/resources/validate-spec.ts';
import { ScheduledWorld } from '../../support/scheduled-world.ts';

const minuteMs = 60_000;
const noon = Date.UTC(2026, 10, 24, 12, 0);
const [first, second, third] = ['often-20261124-1215', 'often-20261124-1230', 'often-20261124-1245'] as const;

function podOf(more: object = {}) {
  const container = { name: 'backup', volumeMounts: [{ name: 'snapshot', mountPath: '/data' }] };
  return { restartPolicy: 'Never', containers: [container], volumes: [{ name: 'tmp', emptyDir: {} }], ...more };
}

function jobOf(more: object = {}) {
  return {
    template: { metadata: { labels: { app: 'backup' } }, spec: { backoffLimit: 2, template: { spec: podOf() } } },
    ...more,
  };
}

function worldOf(spec: object = {}): ScheduledWorld {
  return new ScheduledWorld({ startMs: noon + minuteMs, spec: { cron: '*/15 * * * *', job: jobOf(), ...spec } });
}

/** Lets it become that many minutes after noon, with every snapshot taken that is asked for, and its claim made. */
function at(world: ScheduledWorld, minutes: number): void {
  world.nowMs = noon + minutes * minuteMs;
  world.reconcile();
  for (const name of world.pending) {
    world.take(name);
    world.update(name, { claimName: name }, 'True', 'Taken');
  }
  world.reconcile();
}

/** What became of the Jobs, the newest first. */
function outcomes(world: ScheduledWorld): (string | undefined)[] {
  return (world.schedule.status?.history ?? []).map(({ job }) => job?.outcome);
}

function message(world: ScheduledWorld, index = 0): string | undefined {
  return world.schedule.status?.history?.[index]?.job?.message;
}

test('a snapshot gets its Job when it can be read through its claim, and one only', () => {
  const world = worldOf();
  world.nowMs = noon + 15 * minuteMs;
  world.reconcile();
  expect(world.snapshots.get(first)?.spec.claim).toBe(true);
  world.take(first);
  world.reconcile();
  expect([world.jobs.size, outcomes(world), world.plan().soon]).toEqual([0, ['Waiting'], true]);
  world.update(first, { claimName: 'the-claim' }, 'True', 'Taken');
  world.reconcile();
  expect([outcomes(world), world.condition('JobSucceeded')]).toEqual([['Running'], 'Unknown NotYet']);
  expect(world.jobs.get(first)).toMatchObject({
    metadata: {
      namespace: 'shop',
      labels: { app: 'backup', 'understudy.dev/schedule': 'often', 'understudy.dev/schedule-uid': 'uid-1' },
      annotations: { 'understudy.dev/scheduled-at': '2026-11-24T12:15:00Z' },
      ownerReferences: [{ kind: 'Snapshot', name: first, uid: world.snapshots.get(first)?.metadata.uid }],
    },
    spec: {
      backoffLimit: 2,
      template: {
        spec: {
          volumes: [
            { name: 'tmp', emptyDir: {} },
            { name: 'snapshot', persistentVolumeClaim: { claimName: 'the-claim', readOnly: true } },
          ],
        },
      },
    },
  });
  world.endJob(first, 'Complete');
  world.reconcile();
  expect([outcomes(world), world.condition('JobSucceeded')]).toEqual([['Succeeded'], 'True Succeeded']);
  // Its time to live is over.
  world.jobs.clear();
  world.reconcile();
  expect([world.jobs.size, outcomes(world), world.plan().soon]).toEqual([0, ['Succeeded'], false]);
});

test('a crash between the Job and the status makes no second one', () => {
  const world = worldOf();
  world.nowMs = noon + 15 * minuteMs;
  world.reconcile();
  world.take(first);
  world.update(first, { claimName: first }, 'True', 'Taken');
  world.reconcile('made');
  expect([world.jobs.size, outcomes(world)]).toEqual([1, ['Waiting']]);
  world.reconcile();
  expect([world.jobs.size, outcomes(world)]).toEqual([1, ['Running']]);
});

test('while one has not ended, the snapshots that come get none, also afterwards', () => {
  const world = worldOf();
  at(world, 15);
  at(world, 30);
  expect([outcomes(world), message(world)]).toEqual([['Skipped', 'Running'], `Job ${first} had not ended`]);
  world.endJob(first, 'Complete');
  world.reconcile();
  expect([[...world.jobs.keys()], outcomes(world)]).toEqual([[first], ['Skipped', 'Succeeded']]);
  expect(world.condition('JobSucceeded')).toBe('False Skipped');
  at(world, 45);
  expect(outcomes(world)).toEqual(['Running', 'Skipped', 'Succeeded']);
});

test('a snapshot stays while its Job has not ended, whatever the retention says', () => {
  const world = worldOf({ retention: { keepLast: 1 } });
  at(world, 15);
  at(world, 30);
  at(world, 45);
  expect(world.taken).toEqual([first, third]);
  world.endJob(first, 'Complete');
  world.reconcile();
  expect(world.taken).toEqual([third]);
});

describe('afterwards', () => {
  test.each([
    ['Keep', 'Complete', [first]],
    ['Release', 'Complete', []],
    ['Release', 'Failed', [first]],
  ] as const)('onSuccess: %s, a Job that is %s', (onSuccess, end, left) => {
    const world = worldOf({ job: jobOf({ onSuccess }) });
    at(world, 15);
    world.endJob(first, end, 'exit code 1');
    world.reconcile();
    expect(world.taken).toEqual(left);
    expect(message(world)).toBe(end === 'Failed' ? 'exit code 1' : undefined);
    expect(world.condition('UpToDate')).toBe('True Taken');
  });

  test('what someone wants to keep is not released', () => {
    const world = worldOf({ job: jobOf({ onSuccess: 'Release' }) });
    at(world, 15);
    const snapshot = world.snapshots.get(first);
    if (snapshot === undefined) throw new Error('it was taken');
    world.snapshots.set(first, {
      ...snapshot,
      metadata: { ...snapshot.metadata, annotations: { ...snapshot.metadata.annotations, [keepAnnotation]: 'true' } },
    });
    world.endJob(first, 'Complete');
    world.reconcile();
    expect([world.taken, outcomes(world)]).toEqual([[first], ['Succeeded']]);
  });
});

describe('what goes wrong', () => {
  test.each(['Running', 'Complete'] as const)(
    'a snapshot that lost its content fails its Job, which is %s',
    (state) => {
      const world = worldOf({ job: jobOf({ onSuccess: 'Release' }) });
      at(world, 15);
      if (state === 'Complete') world.endJob(first, 'Complete');
      world.update(first, {}, 'False', 'Invalidated');
      world.reconcile();
      expect([outcomes(world), world.condition('JobSucceeded')]).toEqual([['Failed'], 'False Failed']);
      expect(message(world)).toMatch(/lost its content/);
      expect(world.jobs.size).toBe(state === 'Complete' ? 1 : 0);
      expect(world.taken).toEqual([first]);
    },
  );

  test('a Job whose snapshot was deleted is ended', () => {
    const world = worldOf();
    at(world, 15);
    world.snapshots.delete(first);
    world.reconcile();
    expect([world.jobs.size, outcomes(world), message(world)]).toEqual([
      0,
      ['Failed'],
      `Snapshot ${first} was deleted`,
    ]);
  });

  test('a Job that was deleted has failed, and is not made again', () => {
    const world = worldOf();
    at(world, 15);
    world.jobs.clear();
    world.reconcile();
    expect([world.jobs.size, outcomes(world)]).toEqual([0, ['Failed']]);
    expect(message(world)).toMatch(/deleted before it was seen to end/);
  });

  test('a Job that the API server refuses has failed', () => {
    const world = worldOf();
    world.nowMs = noon + 15 * minuteMs;
    world.reconcile();
    world.update(first, { takenAt: new Date(world.nowMs).toISOString(), claimName: first }, 'True', 'Taken');
    const plan = world.plan({ jobRefused: { name: first, message: 'quota' } });
    expect(plan.jobs.start).toBeUndefined();
    expect(plan.status.history?.[0]?.job).toEqual({ name: first, outcome: 'Failed', message: 'quota' });
  });

  test('while Jobs cannot be seen nothing is said or made of them', () => {
    const world = worldOf();
    at(world, 15);
    const plan = world.plan({ jobs: { kind: 'unseen', message: 'forbidden' } });
    expect(plan.status.history?.[0]?.job?.outcome).toBe('Running');
    expect(plan.status.conditions?.find(({ type }) => type === 'JobSucceeded')).toMatchObject({
      reason: 'JobsNotSeen',
    });
  });

  test('snapshots from before the schedule had a job get none, nor those from after it', () => {
    const world = worldOf({ job: undefined });
    at(world, 15);
    world.change({ job: worldOf().schedule.spec.job });
    at(world, 16);
    expect([world.jobs.size, outcomes(world)]).toEqual([0, [undefined]]);
    world.nowMs = noon + 30 * minuteMs;
    world.reconcile();
    world.change({ job: undefined });
    world.update(second, { takenAt: new Date(world.nowMs).toISOString(), claimName: second }, 'True', 'Taken');
    world.reconcile();
    expect([world.jobs.size, outcomes(world)]).toEqual([0, ['Skipped', undefined]]);
  });
});

test.each([
  ['spec.job.template.spec.template.spec.volumes', podOf({ volumes: [{ name: 'snapshot' }] })],
  ['spec.job.template.spec.template.spec.containers', podOf({ containers: [{ name: 'blind' }] })],
  ['spec.job.template.spec.template.spec.restartPolicy', podOf({ restartPolicy: 'Always' })],
])('a template is refused that has something wrong in %s', (field, pod) => {
  const template = { source: { mirror: 'm' } };
  const job = { template: { spec: { template: { spec: pod } } } };
  const checked = validateSpec(snapshotSchedules, { cron: '@daily', template, job });
  expect(checked.ok ? 'accepted' : describeViolations(checked.violations)).toContain(`${field}: expected`);
});

test('a Job that has ended goes before its snapshot, whose claim its pods would keep', () => {
  const world = worldOf();
  at(world, 15);
  world.endJob(first, 'Complete');
  world.reconcile();
  expect([...world.jobs.keys()]).toEqual([first]);
  const snapshot = world.snapshots.get(first);
  if (snapshot === undefined) throw new Error('the snapshot is there');
  const metadata = { ...snapshot.metadata, deletionTimestamp: '2026-11-24T12:16:00Z' };
  world.snapshots.set(first, { ...snapshot, metadata });
  expect(world.plan().jobs.end.map(({ job, isOver }) => [job.metadata.name, isOver])).toEqual([[first, true]]);
  world.reconcile();
  expect([world.jobs.size, outcomes(world)]).toEqual([0, ['Succeeded']]);
});
