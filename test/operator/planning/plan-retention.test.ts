import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type KeptSnapshot, planRetention, type RetentionWorld } from '../../../operator/planning/plan-retention.ts';

const hourMs = 3_600_000;
const begin = Date.UTC(2026, 2, 1);

function snapshot(name: string, takenAt: string | number, more: Partial<KeptSnapshot> = {}): KeptSnapshot {
  const takenAtMs = typeof takenAt === 'number' ? takenAt : Date.parse(takenAt);
  return { name, takenAtMs, ready: true, held: undefined, ...more };
}

function planned(world: Partial<RetentionWorld> & Pick<RetentionWorld, 'snapshots'>) {
  return planRetention({ rules: {}, timeZone: 'UTC', places: undefined, ...world });
}

/** The names that stay, the newest first. */
function left(world: Parameters<typeof planned>[0]): string[] {
  const { prune } = planned(world);
  return world.snapshots
    .filter(({ name }) => !prune.includes(name))
    .sort((a, b) => b.takenAtMs - a.takenAtMs)
    .map(({ name }) => name);
}

describe('what the rules keep', () => {
  test('keepLast: the newest', () => {
    const snapshots = [1, 2, 3, 4].map((hour) => snapshot(`h${hour}`, `2026-03-01T0${hour}:00:00Z`));
    expect(left({ snapshots, rules: { keepLast: 2 } })).toEqual(['h4', 'h3']);
  });

  test('hourly, daily, weekly: the newest of each that has one, and what several rules ask for once', () => {
    const snapshots = [
      snapshot('mon-early', '2026-03-02T01:00:00Z'),
      snapshot('mon-late', '2026-03-02T23:00:00Z'),
      snapshot('sun', '2026-03-08T12:00:00Z'),
      snapshot('next-mon', '2026-03-09T00:15:00Z'),
      snapshot('next-mon-later', '2026-03-09T00:30:00Z'),
    ];
    expect(left({ snapshots, rules: { hourly: 3 } })).toEqual(['next-mon-later', 'sun', 'mon-late']);
    expect(left({ snapshots, rules: { daily: 2 } })).toEqual(['next-mon-later', 'sun']);
    expect(left({ snapshots, rules: { weekly: 2 } })).toEqual(['next-mon-later', 'sun']);
    expect(left({ snapshots, rules: { keepLast: 2, weekly: 5 } })).toEqual(['next-mon-later', 'next-mon', 'sun']);
    expect(planned({ snapshots, rules: { keepLast: 1, daily: 1 } }).kept).toEqual(
      new Map([['next-mon-later', ['keepLast', 'daily']]]),
    );
  });

  test('days are those of the time zone, half hours included', () => {
    const snapshots = [snapshot('before', '2026-03-01T18:20:00Z'), snapshot('after', '2026-03-01T18:40:00Z')];
    expect(left({ snapshots, rules: { daily: 9 } })).toEqual(['after']);
    expect(left({ snapshots, rules: { daily: 9 }, timeZone: 'Asia/Kolkata' })).toEqual(['after', 'before']);
    expect(left({ snapshots, rules: { hourly: 9 }, timeZone: 'Asia/Kolkata' })).toEqual(['after', 'before']);
  });

  test('the hour that comes twice when clocks are put back is two hours', () => {
    const snapshots = [snapshot('summer', '2026-10-25T00:30:00Z'), snapshot('winter', '2026-10-25T01:30:00Z')];
    expect(left({ snapshots, rules: { hourly: 9 }, timeZone: 'Europe/Berlin' })).toEqual(['winter', 'summer']);
  });

  test('without rules, as many as there are places', () => {
    const snapshots = [1, 2, 3].map((hour) => snapshot(`h${hour}`, `2026-03-01T0${hour}:00:00Z`));
    expect(left({ snapshots })).toEqual(['h3', 'h2', 'h1']);
    expect(left({ snapshots, places: 2 })).toEqual(['h3', 'h2']);
  });
});

describe('what stays whatever they say', () => {
  const [old, newer, newest] = [1, 2, 3].map((hour) => begin + hour * hourMs) as [number, number, number];

  test('what is being read, and the places are made by others', () => {
    const snapshots = [snapshot('read', old, { held: 'read' }), snapshot('b', newer), snapshot('c', newest)];
    expect(left({ snapshots, rules: { keepLast: 1 } })).toEqual(['c', 'read']);
    expect(planned({ snapshots, rules: { keepLast: 3 }, places: 2 })).toMatchObject({
      prune: ['b'],
      crowdedOut: ['b'],
    });
  });

  test('everything, until a newer one is ready', () => {
    const snapshots = [snapshot('a', old), snapshot('b', newer), snapshot('c', newest, { ready: false })];
    expect(left({ snapshots, rules: { keepLast: 1 } })).toEqual(['c', 'b']);
    const unseen = snapshots.map((each) => ({ ...each, ready: false }));
    expect(left({ snapshots: unseen, rules: { keepLast: 1 }, places: 1 })).toEqual(['c', 'b', 'a']);
  });
});

const count = fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined });
const worlds: fc.Arbitrary<RetentionWorld> = fc.record({
  snapshots: fc.uniqueArray(fc.integer({ min: 0, max: 60 * 24 * 4 }), { maxLength: 60 }).chain((quarters) =>
    fc.tuple(
      ...quarters.map((quarter) =>
        fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 })).map(([ready, held]) =>
          snapshot(`q${quarter}`, begin + (quarter * hourMs) / 4, {
            ready: ready > 0,
            held: held === 0 ? 'read' : undefined,
          }),
        ),
      ),
    ),
  ),
  rules: fc
    .record({ keepLast: count, hourly: count, daily: count, weekly: count })
    .map((rules) => Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== undefined))),
  timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'Asia/Kolkata', 'America/St_Johns'),
  places: fc.option(fc.integer({ min: 1, max: 40 }), { nil: undefined }),
});

describe('whatever there is', () => {
  test('what goes is ready, held by nobody, and older than one that is ready and stays', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const { prune } = planRetention(world);
        const stays = world.snapshots.filter(({ name }) => !prune.includes(name));
        const newestMs = Math.max(...stays.filter(({ ready }) => ready).map(({ takenAtMs }) => takenAtMs));
        for (const { name, ready, held, takenAtMs } of world.snapshots) {
          if (prune.includes(name))
            expect({ ready, held, older: takenAtMs < newestMs }).toEqual({ ready: true, held: undefined, older: true });
        }
        expect(new Set(prune).size).toBe(prune.length);
      }),
    );
  });

  test('after it was done there is nothing to do', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const { prune } = planRetention(world);
        const snapshots = world.snapshots.filter(({ name }) => !prune.includes(name));
        expect(planRetention({ ...world, snapshots }).prune).toEqual([]);
      }),
    );
  });

  test('no more stay than there are places, except what must not go', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const { prune } = planRetention(world);
        const stays = world.snapshots.filter(({ name }) => !prune.includes(name));
        const newest = Math.max(...stays.filter(({ ready }) => ready).map(({ takenAtMs }) => takenAtMs));
        const free = stays.filter(({ ready, held, takenAtMs }) => ready && held === undefined && takenAtMs < newest);
        if (free.length > 0) expect(stays.length).toBeLessThanOrEqual(world.places ?? Number.POSITIVE_INFINITY);
      }),
    );
  });

  test('with places for all, every rule has what it asks for: as a slow reading of the rules says', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const { prune } = planRetention({ ...world, places: undefined });
        const newestFirst = [...world.snapshots].sort((a, b) => b.takenAtMs - a.takenAtMs);
        const { keepLast, hourly, daily, weekly } = world.rules;
        const none = [keepLast, hourly, daily, weekly].every((value) => value === undefined);
        for (const [index, { name, takenAtMs }] of newestFirst.entries()) {
          const local = wallClock(takenAtMs, world.timeZone);
          const within = (period: (local: string, ms: number) => string, limit = 0) => {
            const newer = newestFirst
              .slice(0, index)
              .map((each) => period(wallClock(each.takenAtMs, world.timeZone), each.takenAtMs));
            const own = period(local, takenAtMs);
            return !newer.includes(own) && new Set(newer).size < limit;
          };
          const wanted =
            none ||
            index < (keepLast ?? 0) ||
            within((text, ms) => text.slice(0, 13) + offsetMs(text, ms), hourly) ||
            within((text) => text.slice(0, 10), daily) ||
            within((text) => mondayBefore(text.slice(0, 10)), weekly);
          if (wanted) expect(prune).not.toContain(name);
        }
      }),
    );
  });
});

/** "2026-03-01 13:45" as clocks show it there. */
function wallClock(ms: number, timeZone: string): string {
  return new Date(ms).toLocaleString('sv-SE', { timeZone });
}

function offsetMs(local: string, ms: number): number {
  return Date.parse(`${local.replace(' ', 'T')}Z`) - ms;
}

function mondayBefore(date: string): string {
  const day = new Date(`${date}T00:00:00Z`);
  while (day.getUTCDay() !== 1) day.setUTCDate(day.getUTCDate() - 1);
  return day.toISOString().slice(0, 10);
}
