import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { jitterOffsetMs, scheduledName } from '../../../operator/planning/schedule-times.ts';
import { kubeTime } from '../../../operator/resources/conditions.ts';
import { keepAnnotation } from '../../../operator/resources/group.ts';
import { ScheduledWorld } from '../../support/scheduled-world.ts';

const minuteMs = 60_000;
const noon = Date.UTC(2026, 10, 24, 12, 0);

/** A schedule that was made a minute after noon. */
function worldOf(spec: object = {}, maxSnapshots = 32): ScheduledWorld {
  return new ScheduledWorld({ startMs: noon + minuteMs, spec: { cron: '*/15 * * * *', ...spec }, maxSnapshots });
}

/** Lets it become that many minutes after noon, and looks. */
function at(world: ScheduledWorld, minutes: number): void {
  world.nowMs = noon + minutes * minuteMs;
  world.reconcile();
}

function takeAll(world: ScheduledWorld): void {
  for (const name of world.pending) world.take(name);
  world.reconcile();
}

describe('when', () => {
  test('at the times of the pattern, each once, under a name that follows from it', () => {
    const world = worldOf({
      template: { source: { mirror: 'm' }, labels: { app: 'shop' }, consistency: { freeze: {} } },
    });
    at(world, 14);
    expect(world.made).toEqual([]);
    expect(world.schedule.status).toMatchObject({ nextScheduleTime: '2026-11-24T12:15:00Z', history: [] });
    expect(world.condition('UpToDate')).toBe('Unknown NotYet');
    at(world, 15);
    at(world, 15.5);
    expect(world.made).toEqual(['often-20261124-1215']);
    expect(world.snapshots.get('often-20261124-1215')).toMatchObject({
      metadata: {
        labels: { app: 'shop', 'understudy.dev/schedule': 'often', 'understudy.dev/schedule-uid': 'uid-1' },
        annotations: { 'understudy.dev/scheduled-at': '2026-11-24T12:15:00Z' },
      },
      spec: { source: { mirror: 'm' }, consistency: { freeze: { timeout: '5s' } }, claim: false },
    });
    takeAll(world);
    expect(world.schedule.status).toMatchObject({
      lastScheduleTime: '2026-11-24T12:15:00Z',
      nextScheduleTime: '2026-11-24T12:30:00Z',
      lastSuccessfulTime: '2026-11-24T12:15:30.000Z',
      kept: 1,
      history: [{ scheduledAt: '2026-11-24T12:15:00Z', outcome: 'Taken' }],
    });
    expect([world.condition('UpToDate'), world.condition('Ready')]).toEqual(['True Taken', 'True Scheduled']);
  });

  test('jitter delays all times of a schedule by the same share, and those of another by another', () => {
    const world = worldOf({ jitter: '10m' });
    const offsetMs = jitterOffsetMs('uid-1', 10 * minuteMs);
    expect(offsetMs).toBeGreaterThan(0);
    expect(jitterOffsetMs('uid-2', 10 * minuteMs)).not.toBe(offsetMs);
    at(world, 15 + offsetMs / minuteMs - 0.02);
    expect(world.made).toEqual([]);
    expect(world.schedule.status?.nextScheduleTime).toBe(kubeTime(noon + 15 * minuteMs + offsetMs));
    at(world, 15 + offsetMs / minuteMs);
    expect(world.made).toEqual(['often-20261124-1215']);
  });

  test('days are those of the time zone, also when clocks change', () => {
    const world = new ScheduledWorld({
      startMs: Date.UTC(2026, 9, 23, 12),
      spec: { cron: '30 2 * * *', timeZone: 'Europe/Berlin' },
    });
    for (let day = 0; day < 4; day += 1) {
      world.nowMs = Date.parse(world.plan().status.nextScheduleTime ?? '');
      world.reconcile();
      takeAll(world);
    }
    // On the 25th 02:30 comes twice, and is taken once.
    expect(world.made.map((name) => name.slice(-8))).toEqual(['024-0030', '025-0030', '026-0130', '027-0130']);
  });

  test('a pattern that never comes is said to be invalid', () => {
    const world = worldOf({ cron: '0 0 31 2 *' });
    at(world, 15);
    expect(world.condition('Ready')).toBe('False Invalid');
  });

  test('long names stay within what Kubernetes takes, and differ', () => {
    const names = ['a', 'b'].map((end) => scheduledName('x'.repeat(250) + end, noon));
    for (const name of names) expect(name.length).toBeLessThanOrEqual(253);
    expect(new Set(names).size).toBe(2);
  });
});

describe('what goes wrong', () => {
  test('a crash between the snapshot and the status makes no second one', () => {
    const world = worldOf();
    world.nowMs = noon + 15 * minuteMs;
    world.reconcile('made');
    expect(world.schedule.status?.lastScheduleTime).toBeUndefined();
    at(world, 16);
    expect(world.made).toEqual(['often-20261124-1215']);
    world.snapshots.clear();
    at(world, 17);
    expect(world.made).toEqual(['often-20261124-1215']);
    expect(world.schedule.status?.history).toMatchObject([{ outcome: 'GivenUp' }]);
  });

  test('after a downtime the newest time is caught up, the others are left out', () => {
    const world = worldOf();
    at(world, 2);
    at(world, 61);
    expect(world.made).toEqual(['often-20261124-1300']);
    expect(world.schedule.status?.history).toMatchObject([
      { scheduledAt: '2026-11-24T13:00:00Z', outcome: 'Taking' },
      { scheduledAt: '2026-11-24T12:45:00Z', outcome: 'Skipped', message: expect.stringMatching(/^3 times/) },
    ]);
  });

  test('… unless it is too late for that', () => {
    const world = worldOf({ startingDeadline: '5m' });
    at(world, 2);
    at(world, 66);
    expect(world.made).toEqual([]);
    expect(world.schedule.status?.history?.[0]).toMatchObject({
      outcome: 'Skipped',
      message: expect.stringMatching(/5m too late/),
    });
    expect(world.condition('UpToDate')).toBe('False Skipped');
    at(world, 75);
    expect(world.made).toEqual(['often-20261124-1315']);
  });

  test('while one is being taken, the next time is left out, or replaces it', () => {
    const world = worldOf();
    at(world, 15);
    at(world, 30);
    expect(world.made).toEqual(['often-20261124-1215']);
    expect(world.schedule.status?.history?.[0]).toMatchObject({
      outcome: 'Skipped',
      message: expect.stringMatching(/1215 has not been taken/),
    });
    world.change({ concurrencyPolicy: 'Replace' });
    at(world, 45);
    expect(world.pending).toEqual(['often-20261124-1245']);
    expect(world.schedule.status?.history?.at(-1)).toMatchObject({
      outcome: 'GivenUp',
      snapshot: 'often-20261124-1215',
    });
  });

  test('what is not taken before its deadline is given up', () => {
    const world = worldOf({ startingDeadline: '3m' });
    at(world, 15);
    expect(world.plan().nextMs).toBe(noon + 18 * minuteMs);
    at(world, 18.1);
    expect(world.pending).toEqual([]);
    expect(world.condition('UpToDate')).toBe('False GivenUp');
  });

  test('nothing is asked for where it cannot be taken', () => {
    const world = worldOf();
    world.mirror = undefined;
    at(world, 15);
    expect(world.made).toEqual([]);
    expect([world.condition('Ready'), world.condition('UpToDate')]).toEqual(['False SourceNotFound', 'False Skipped']);
  });

  test('a name that someone else has is left to them', () => {
    const world = worldOf();
    world.foreign('often-20261124-1215');
    at(world, 15);
    expect(world.made).toEqual([]);
    expect(world.schedule.status?.history).toMatchObject([{ outcome: 'Skipped' }]);
    at(world, 30);
    expect(world.made).toEqual(['often-20261124-1230']);
  });

  test('while it is suspended nothing is taken or removed, and nothing is caught up afterwards', () => {
    const world = worldOf({ retention: { keepLast: 1 } });
    at(world, 15);
    takeAll(world);
    world.change({ suspend: true });
    at(world, 31);
    expect([world.made.length, world.condition('Ready')]).toEqual([1, 'True Suspended']);
    world.change({ suspend: false });
    at(world, 32);
    expect(world.made).toHaveLength(1);
    at(world, 45);
    expect(world.made).toHaveLength(2);
  });

  test('another pattern begins from now on', () => {
    const world = worldOf({ cron: '0 0 * * *' });
    at(world, 16);
    world.change({ cron: '*/15 * * * *' });
    at(world, 17);
    expect(world.made).toEqual([]);
    at(world, 30);
    expect(world.made).toEqual(['often-20261124-1230']);
  });
});

describe('what is removed', () => {
  /** Takes one at each of so many quarters of an hour. */
  function quarters(world: ScheduledWorld, from: number, to: number): void {
    for (let quarter = from; quarter <= to; quarter += 1) {
      at(world, 15 * quarter);
      takeAll(world);
    }
  }

  test('nothing, before its replacement can be read', () => {
    const world = worldOf({ retention: { keepLast: 1 } });
    quarters(world, 1, 1);
    at(world, 30);
    expect(world.taken).toEqual(['often-20261124-1215']);
    world.update('often-20261124-1230', { takenAt: '2026-11-24T12:30:01.000Z' }, 'Unknown', 'AgentUnreachable');
    world.reconcile();
    expect(world.taken).toHaveLength(2);
    world.update('often-20261124-1230', {}, 'True', 'Taken');
    world.reconcile();
    expect(world.taken).toEqual(['often-20261124-1230']);
  });

  test('not what is read, nor what someone wants to keep, nor what others made', () => {
    const world = worldOf({ retention: { keepLast: 1 } });
    world.foreign('by-hand');
    world.take('by-hand');
    quarters(world, 1, 1);
    world.update('often-20261124-1215', { readers: 1 }, 'True', 'Taken');
    quarters(world, 2, 2);
    const kept = world.snapshots.get('often-20261124-1230');
    if (kept === undefined) throw new Error('it was taken');
    world.snapshots.set('often-20261124-1230', {
      ...kept,
      metadata: { ...kept.metadata, annotations: { ...kept.metadata.annotations, [keepAnnotation]: 'true' } },
    });
    quarters(world, 3, 4);
    expect(world.taken).toEqual(['by-hand', 'often-20261124-1215', 'often-20261124-1230', 'often-20261124-1300']);
    world.update('often-20261124-1215', { readers: 0 }, 'True', 'Taken');
    world.reconcile();
    expect(world.taken).not.toContain('often-20261124-1215');
  });

  test('what there is no place for beside the next one, and that is said', () => {
    const world = worldOf({ retention: { keepLast: 30 } }, 8);
    world.foreign('by-hand');
    quarters(world, 1, 12);
    expect(world.taken).toHaveLength(7);
    expect(world.schedule.status).toMatchObject({ kept: 6, places: 6 });
    expect(world.condition('RetentionFits')).toBe('False TooManyForBuffer');
    world.change({ retention: { keepLast: 6 } });
    quarters(world, 13, 14);
    expect(world.condition('RetentionFits')).toBe('True Fits');
    // Together they ask for more than there is a place for, which shows only after a while; then it stays said.
    world.change({ retention: { keepLast: 4, hourly: 4 } });
    quarters(world, 15, 40);
    for (let quarter = 41; quarter < 46; quarter += 1) {
      quarters(world, quarter, quarter);
      expect(world.condition('RetentionFits')).toBe('False TooManyForBuffer');
    }
  });

  test('what has lost its content, once there is a newer one', () => {
    const world = worldOf();
    quarters(world, 1, 2);
    world.update('often-20261124-1230', {}, 'False', 'Invalidated');
    world.reconcile();
    expect(world.taken).toHaveLength(2);
    expect(world.condition('UpToDate')).toBe('False Lost');
    quarters(world, 3, 3);
    expect(world.taken).toEqual(['often-20261124-1215', 'often-20261124-1245']);
  });
});

type Disturbance = { readonly type: 'delete' | 'invalidate' } | { readonly type: 'read'; readonly index: number };

type Happening =
  | { readonly type: 'pass'; readonly minutes: number }
  | { readonly type: 'away'; readonly minutes: number }
  | { readonly type: 'crash'; readonly after: 'made' | 'written' }
  | { readonly type: 'take' | 'foreign' }
  | Disturbance;

const happenings: fc.Arbitrary<Happening[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ type: fc.constant('pass' as const), minutes: fc.integer({ min: 1, max: 20 }) }),
    },
    { weight: 6, arbitrary: fc.constant({ type: 'take' as const }) },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constant('away' as const), minutes: fc.integer({ min: 1, max: 200 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        type: fc.constant('crash' as const),
        after: fc.constantFrom('made' as const, 'written' as const),
      }),
    },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('read' as const), index: fc.nat(40) }) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(...(['delete', 'invalidate', 'foreign'] as const).map((type) => ({ type }))),
    },
  ),
  { maxLength: 120 },
);

const specs = fc.record({
  cron: fc.constantFrom('*/15 * * * *', '*/5 * * * *', '@hourly', '7 */2 * * *'),
  jitter: fc.constantFrom('0s', '10m'),
  concurrencyPolicy: fc.constantFrom('Forbid', 'Replace'),
  retention: fc.constantFrom({}, { keepLast: 3 }, { keepLast: 2, hourly: 4, daily: 2 }, { weekly: 1 }),
});

describe('whatever happens', () => {
  test('no time has two snapshots, none beyond the limit of the buffer is asked to be kept, and nothing in use goes', () => {
    fc.assert(
      fc.property(specs, fc.integer({ min: 2, max: 8 }), happenings, (spec, maxSnapshots, events) => {
        const world = new ScheduledWorld({ startMs: noon + minuteMs, spec, maxSnapshots });
        let others = 0;
        for (const event of events) {
          happen(world, event, maxSnapshots);
          if (event.type === 'foreign' && others < world.snapshots.size) others += 1;
          expect(new Set(world.made).size, 'two for one time').toBe(world.made.length);
          for (const { snapshot } of world.removed.splice(0)) {
            expect(snapshot.status?.readers ?? 0, 'removed while it was read').toBe(0);
            if (snapshot.status?.takenAt !== undefined)
              expect(replacementsOf(world, snapshot.status.takenAt)).not.toEqual([]);
          }
        }
        world.reconcile();
        const again = world.plan();
        expect({ make: again.make, giveUp: again.giveUp, prune: again.prune }).toEqual({
          make: undefined,
          giveUp: [],
          prune: [],
        });
        expect(again.status).toEqual(world.schedule.status);
        const { places = 0 } = world.schedule.status ?? {};
        const free = [...world.snapshots.values()].filter((snapshot) => isFree(world, snapshot));
        if (free.length > 0) expect(world.schedule.status?.kept).toBeLessThanOrEqual(places);
      }),
      { numRuns: 300 },
    );
  });

  /** Own, readable, unread, and older than another such one. */
  function isFree(
    world: ScheduledWorld,
    {
      metadata,
      status,
    }: {
      metadata: { name: string };
      status?: { takenAt?: string | undefined; readers?: number | undefined } | undefined;
    },
  ): boolean {
    return (
      metadata.name.startsWith('often-') &&
      status?.takenAt !== undefined &&
      (status.readers ?? 0) === 0 &&
      replacementsOf(world, status.takenAt).length > 0
    );
  }

  function replacementsOf(world: ScheduledWorld, takenAt: string): string[] {
    return [...world.snapshots.values()]
      .filter(({ status }) => status?.conditions?.[0]?.status === 'True' && (status.takenAt ?? '') > takenAt)
      .map(({ metadata }) => metadata.name);
  }

  function happen(world: ScheduledWorld, event: Happening, maxSnapshots: number): void {
    switch (event.type) {
      case 'pass':
        world.nowMs += event.minutes * minuteMs;
        return world.reconcile();
      case 'away':
        world.nowMs += event.minutes * minuteMs;
        return;
      case 'crash':
        return world.reconcile(event.after);
      case 'take': {
        // The agent refuses one too many.
        world.nowMs += 1000;
        const [name] = world.pending;
        if (name !== undefined && world.taken.length < maxSnapshots) world.take(name);
        return world.reconcile();
      }
      case 'foreign':
        if (world.snapshots.size < maxSnapshots) world.foreign(`by-hand-${world.snapshots.size}`);
        return world.reconcile();
      default:
        return disturb(world, event);
    }
  }

  function disturb(world: ScheduledWorld, event: Disturbance): void {
    const index = event.type === 'read' ? event.index : 0;
    const name = world.taken[index % Math.max(1, world.taken.length)];
    if (name === undefined) return;
    if (event.type === 'delete') world.snapshots.delete(name);
    if (event.type === 'invalidate') world.update(name, {}, 'False', 'Invalidated');
    if (event.type === 'read')
      world.update(name, { readers: 1 - (world.snapshots.get(name)?.status?.readers ?? 0) }, 'True', 'Taken');
    world.reconcile();
  }
});
