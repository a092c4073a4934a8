import { beforeEach, expect, test } from 'vitest';
import { newMember } from '../../../operator/planning/group-members.ts';
import { type GroupPlan, type GroupWorld, planGroup } from '../../../operator/planning/plan-group.ts';
import type { Condition } from '../../../operator/resources/conditions.ts';
import { finalizer } from '../../../operator/resources/group.ts';
import { type PrimaryVolume, primaryVolumeSpecSchema } from '../../../operator/resources/primary-volume.ts';
import type { Snapshot, SnapshotStatus } from '../../../operator/resources/snapshot.ts';
import { type SnapshotGroup, snapshotGroupSpecSchema } from '../../../operator/resources/snapshot-group.ts';
import { type StandbyMirror, standbyMirrorSpecSchema } from '../../../operator/resources/standby-mirror.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const meta = (name: string) => ({ name, namespace: 'shop', uid: `${name}-uid`, resourceVersion: '1', generation: 1 });

function condition(type: Condition['type'], status: Condition['status'], reason = 'Taken', message = ''): Condition {
  return { type, status, reason, message, lastTransitionTime: '' };
}

function volume(name: string, node: string): PrimaryVolume {
  const spec = primaryVolumeSpecSchema.parse({ size: '1Gi', nodeName: node });
  return { apiVersion, kind: 'PrimaryVolume', metadata: meta(name), spec, status: { node, volume: `pv-${name}-uid` } };
}

function mirror(name: string, of: string, node: string, inSync: Condition['status'] = 'True'): StandbyMirror {
  const buffer = { pool: 'buffer', capacity: '1Gi' };
  const spec = standbyMirrorSpecSchema.parse({ primaryVolumeRef: { name: of }, nodeName: node, buffer });
  const status = { node, volume: `pv-${of}-uid`, conditions: [condition('InSync', inSync)] };
  return { apiVersion, kind: 'StandbyMirror', metadata: { ...meta(name), labels: { app: 'db' } }, spec, status };
}

let world: GroupWorld;
beforeEach(() => {
  const group: SnapshotGroup = {
    apiVersion,
    kind: 'SnapshotGroup',
    metadata: { ...meta('db'), finalizers: [finalizer] },
    spec: snapshotGroupSpecSchema.parse({ sources: [{ mirror: 'm' }, { mirror: 'n' }] }),
  };
  world = {
    now: '2026-01-01T00:00:00Z',
    nowMs: Date.parse('2026-01-01T00:00:00Z'),
    group,
    own: [],
    strangers: new Set(),
    sources: {
      mirrors: [mirror('m', 'data', 'node-b'), mirror('n', 'log', 'node-a')],
      volumes: [volume('data', 'node-a'), volume('log', 'node-b')],
    },
    session: { attempt: 'one', state: 'Named' },
  };
});

/** Plans until nothing is to be written any more. */
function settle(change: Partial<GroupWorld> = {}): GroupPlan {
  world = { ...world, ...change };
  for (let round = 0; round < 10; round += 1) {
    const plan = planGroup(world);
    const done = JSON.stringify(plan.status) === JSON.stringify(world.group.status);
    world = { ...world, group: { ...world.group, status: plan.status } };
    if (done) return plan;
  }
  throw new Error('planning again always yields something else');
}

/** The Snapshots that were to be made, as they are once their place is known. */
function members(status: SnapshotStatus = {}): Snapshot[] {
  const { members: wanted = [], attempts = 1 } = world.group.status ?? {};
  return wanted.map((member, index) => {
    const { spec, ...made } = newMember(world.group, world.group.spec, member, attempts);
    const [requestedFrom, node] = index === 0 ? ['node-a', 'node-b'] : ['node-b', 'node-a'];
    const metadata = { ...meta(member.snapshot), ...made.metadata };
    return { ...made, metadata, spec, status: { node, requestedFrom, ...status } };
  });
}

const reason = (plan: GroupPlan) => plan.status.conditions?.[0]?.reason;
const ready = condition('Ready', 'True');

test('it is begun only when every snapshot has its place and every mirror is in sync, and is written down before', () => {
  const made = settle();
  expect(made.make.map(({ metadata }) => metadata.name)).toEqual(['db-m', 'db-n']);
  expect(settle({ own: members({ requestedFrom: undefined }) }).run).toBeUndefined();
  const { mirrors, volumes } = world.sources;
  const late = settle({
    own: members(),
    sources: { volumes, mirrors: [mirror('m', 'data', 'node-b', 'False'), ...mirrors.slice(1)] },
  });
  expect([reason(late), late.run]).toEqual(['MirrorNotInSync', undefined]);
  world = { ...world, sources: { mirrors, volumes } };
  const first = planGroup(world);
  expect([first.status.startedAt, first.run]).toEqual([world.now, undefined]);
  expect(settle().run).toEqual({
    attempt: 'one',
    requests: [
      { member: 'db-m', node: 'node-a', volume: 'pv-data-uid', snapshot: 'snap-db-m-uid', mirror: 'm' },
      { member: 'db-n', node: 'node-b', volume: 'pv-log-uid', snapshot: 'snap-db-n-uid', mirror: 'n' },
    ],
  });
});

test('a name that another Snapshot has is left to it', () => {
  const plan = settle({ strangers: new Set(['db-n']) });
  expect([reason(plan), plan.make]).toEqual(['NameTaken', []]);
});

test('it is Ready only when all snapshots are, and then nothing is left to do', () => {
  settle();
  settle({ own: members() });
  const over = settle({ session: { attempt: 'one', state: 'Over', heldMs: 3.2 } });
  expect([reason(over), over.status.takenAt, over.status.heldMilliseconds]).toEqual(['MembersNotReady', undefined, 4]);
  const [first, second] = members({ takenAt: '2026-01-01T00:00:00.5Z', conditions: [ready] });
  if (first === undefined || second === undefined) throw new Error('there are two members');
  expect(reason(settle({ own: [first, ...members().slice(1)] }))).toBe('MembersNotReady');
  const done = settle({ own: [first, second] });
  expect(done).toMatchObject({ settled: true, make: [], remove: [], status: { takenAt: '2026-01-01T00:00:00.5Z' } });
  expect(reason(done)).toBe('Taken');
  expect(reason(settle({ own: [first] }))).toBe('MemberDeleted');
});

test.each([
  ['its hold was broken', { session: { attempt: 'one', state: 'Over', problem: 'the deadline' } }],
  ['the process that began it is gone', { session: { attempt: 'two', state: 'Named' } }],
] as const)('when %s, its snapshots are deleted, all of them, before it is tried again', (_, change) => {
  settle();
  settle({ own: members() });
  const isVoid = planGroup({ ...world, ...change });
  expect(isVoid.remove, 'not before it is written down').toEqual([]);
  const plan = settle(change);
  expect([reason(plan), plan.remove.length, plan.run]).toEqual(['Retrying', 2, undefined]);
  const [, left] = members();
  if (left === undefined) throw new Error('there are two members');
  expect(settle({ own: [left], nowMs: world.nowMs + 60_000 }).make).toEqual([]);
  const again = settle({ own: [], session: { attempt: 'next', state: 'Named' } });
  expect(again.status).toMatchObject({ attempts: 2 });
  expect(again.make.map(({ metadata }) => metadata.annotations)).toEqual([
    { 'understudy.dev/group-attempt': '2' },
    { 'understudy.dev/group-attempt': '2' },
  ]);
});

test('a member that its agent would not take makes all void, and after five attempts it is given up', () => {
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    settle({ own: [], session: { attempt: `a${attempt}`, state: 'Named' } });
    settle({ own: members() });
    const broken = members({ conditions: [condition('Ready', 'False', 'GroupBroken', 'nothing is held')] });
    const plan = settle({ own: broken, session: { attempt: `a${attempt}`, state: 'Over', heldMs: 1 } });
    expect([plan.status.attempts, plan.status.problem]).toEqual([attempt, 'Snapshot db-m: nothing is held']);
    world = { ...world, nowMs: world.nowMs + 60_000 };
  }
  expect(reason(settle({ own: [], nowMs: world.nowMs + 600_000 }))).toBe('GivenUp');
});

test('deleted, it stays until its snapshots are gone', () => {
  settle();
  const metadata = { ...world.group.metadata, deletionTimestamp: world.now };
  const going = settle({ own: members(), group: { ...world.group, metadata } });
  expect([going.remove.length, going.finalizer]).toEqual([2, 'keep']);
  expect(settle({ own: [] }).finalizer).toBe('release');
});
