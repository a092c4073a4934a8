import { beforeEach, describe, expect, test } from 'vitest';
import type { SnapshotView } from '../../../agent/api/contract/volumes.ts';
import type { ErrorCode } from '../../../common/errors.ts';
import { actionKey, type Outcome } from '../../../operator/planning/actions.ts';
import { planSnapshot, type SnapshotPlan } from '../../../operator/planning/plan-snapshot.ts';
import type { SnapshotWorld } from '../../../operator/planning/snapshot-world.ts';
import { abandonAnnotation, finalizer } from '../../../operator/resources/group.ts';
import { type PrimaryVolume, primaryVolumeSpecSchema } from '../../../operator/resources/primary-volume.ts';
import { type Snapshot, snapshotSpecSchema } from '../../../operator/resources/snapshot.ts';
import { type StandbyMirror, standbyMirrorSpecSchema } from '../../../operator/resources/standby-mirror.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const meta = (name: string) => ({ name, namespace: 'shop', uid: `${name}-uid`, resourceVersion: '1', generation: 1 });

const volume: PrimaryVolume = {
  apiVersion,
  kind: 'PrimaryVolume',
  metadata: meta('data'),
  spec: primaryVolumeSpecSchema.parse({ size: '1Gi', nodeName: 'node-a' }),
  status: { node: 'node-a', epoch: 1, volume: 'pv-data-uid' },
};
const mirror: StandbyMirror = {
  apiVersion,
  kind: 'StandbyMirror',
  metadata: meta('m'),
  spec: standbyMirrorSpecSchema.parse({
    primaryVolumeRef: { name: 'data' },
    nodeName: 'node-b',
    buffer: { pool: 'buffer', capacity: '1Mi', maxSnapshots: 1 },
  }),
  status: { node: 'node-b', volume: 'pv-data-uid' },
};

let world: SnapshotWorld;
beforeEach(() => {
  world = {
    now: '2026-01-01T00:00:00Z',
    nowMs: Date.UTC(2026, 0, 1),
    snapshot: snapshotOf({ source: { mirror: 'm' } }),
    mirror,
    volume,
    holder: undefined,
    held: undefined,
    requested: undefined,
    outcomes: new Map(),
  };
});

function snapshotOf(spec: object): Snapshot {
  return { apiVersion, kind: 'Snapshot', metadata: meta('s'), spec: snapshotSpecSchema.parse(spec) };
}

/** Plans, and writes the plan down; actions are not done. */
function plan(change: Partial<SnapshotWorld> = {}): SnapshotPlan {
  world = { ...world, ...change };
  const result = planSnapshot(world);
  const finalizers = result.finalizer === 'hold' ? [finalizer] : (world.snapshot.metadata.finalizers ?? []);
  const metadata = { ...world.snapshot.metadata, finalizers };
  world = { ...world, snapshot: { ...world.snapshot, metadata, status: result.status } };
  return result;
}

function ready(result: SnapshotPlan): string {
  const condition = result.status.conditions?.find(({ type }) => type === 'Ready');
  return `${condition?.status} ${condition?.reason}`;
}

function view(change: Partial<SnapshotView> = {}): SnapshotView {
  const taken = { takenAt: '2026-01-01T00:00:00.123Z', consistency: 'crash', size: 2 ** 30 } as const;
  const numbers = { bufferBytes: 10, exclusiveBytes: 5, readers: 1 };
  return { name: 'snap-s-uid', state: 'Ready', valid: true, ...taken, ...numbers, ...change };
}

function answered(result: SnapshotPlan, snapshot: SnapshotView): Map<string, Outcome> {
  return new Map(result.actions.map((action) => [actionKey(action), { ok: true, action, snapshot }]));
}

function failed(result: SnapshotPlan, code: ErrorCode, isAnswer = true): Map<string, Outcome> {
  const failure = { code, message: 'because', answered: isAnswer };
  return new Map(result.actions.map((action) => [actionKey(action), { ok: false, action, failure }]));
}

/** The plan whose action asks for the snapshot. */
function requesting(): SnapshotPlan {
  expect(plan().actions).toEqual([]);
  return plan();
}

describe('taking', () => {
  test('where it will be is written down before it is asked for', () => {
    const first = plan();
    expect(first).toMatchObject({
      finalizer: 'hold',
      actions: [],
      status: { node: 'node-b', requestedFrom: 'node-a', volume: 'pv-data-uid', snapshot: 'snap-s-uid', copy: 'm' },
    });
    expect(plan().actions).toEqual([
      { type: 'put-snapshot', node: 'node-a', volume: 'pv-data-uid', snapshot: 'snap-s-uid', request: { mirror: 'm' } },
    ]);
  });

  test.each([
    ['Take', 'take', 'TimedOut'],
    ['Fail', 'fail', 'TimedOut'],
    ['Skip', 'fail', 'Skipped'],
  ] as const)('a lull that does not come, with %s', (onTimeout, asked, reason) => {
    world = { ...world, snapshot: snapshotOf({ source: { mirror: 'm' }, consistency: { lull: { onTimeout } } }) };
    const request = requesting();
    expect(request.actions[0]).toMatchObject({ request: { lull: { onTimeout: asked } } });
    expect(ready(plan({ outcomes: failed(request, 'Timeout') }))).toBe(`False ${reason}`);
    const later = plan({ outcomes: new Map() });
    expect(later.actions).toHaveLength(reason === 'Skipped' ? 0 : 1);
    expect(later.settled).toBe(reason === 'Skipped');
  });

  test('what was measured of the lull and the freeze stands in the status, also when the agent has forgotten', () => {
    const lull = { found: true, waitedMs: 1234.5, bytesPerSecond: 0 };
    const taken = plan({ outcomes: answered(requesting(), view({ lull, frozenMs: 2.25 })) });
    const measured = { lull: { found: true, waitedMilliseconds: 1235, bytesPerSecond: 0 }, frozenMilliseconds: 3 };
    expect(taken.status).toMatchObject(measured);
    expect(plan({ outcomes: new Map(), held: { kind: 'present', view: view() } }).status).toMatchObject(measured);
  });

  test('once it is taken nothing is asked any more', () => {
    const taken = plan({ outcomes: answered(requesting(), view()) });
    expect(ready(taken)).toBe('True Taken');
    expect(taken.status).toMatchObject({
      takenAt: '2026-01-01T00:00:00.123Z',
      sizeBytes: 2 ** 30,
      bufferBytes: 10,
      readers: 1,
    });
    const again = plan({ outcomes: new Map(), held: { kind: 'present', view: view() } });
    expect([again.actions, again.status]).toEqual([[], taken.status]);
  });

  test('while it waits, it is asked for again at the next look', () => {
    const waiting = plan({ outcomes: answered(requesting(), view({ state: 'Waiting', valid: false })) });
    expect([ready(waiting), waiting.settled, waiting.actions]).toEqual(['False Waiting', false, []]);
    expect(waiting.status.takenAt).toBeUndefined();
    expect(plan({ outcomes: new Map() }).actions).toHaveLength(1);
  });

  test('what to wait for is passed on in the agent’s units', () => {
    const lull = { quietFor: '1s', thresholdPerSecond: '64Ki', timeout: '5m', onTimeout: 'Fail' };
    world = {
      ...world,
      snapshot: snapshotOf({ source: { mirror: 'm' }, consistency: { lull, freeze: { timeout: '10s' } } }),
    };
    const [action] = requesting().actions;
    expect(action).toMatchObject({
      request: {
        mirror: 'm',
        lull: { quietForMs: 1000, thresholdBytesPerSecond: 65536, timeoutMs: 300_000, onTimeout: 'fail' },
        freeze: { timeoutMs: 10_000 },
      },
    });
  });

  test.each([
    ['NotReady', true, 'False MirrorNotInSync'],
    ['Unavailable', true, 'False MirrorNotInSync'],
    ['Unavailable', false, 'False AgentUnreachable'],
    ['Timeout', false, 'False AgentUnreachable'],
    ['Timeout', true, 'False TimedOut'],
    ['Fenced', true, 'False Fenced'],
    ['Invalid', true, 'False RefusedByAgent'],
  ] as const)('a refusal %s (by the agent: %s) is %s, and asked again', (code, isAnswer, reason) => {
    const refused = plan({ outcomes: failed(requesting(), code, isAnswer) });
    expect([ready(refused), refused.actions]).toEqual([reason, []]);
    expect(plan({ outcomes: new Map() }).actions).toHaveLength(1);
  });

  test.each([
    ['the mirror is not there', { mirror: undefined }, 'False SourceNotFound'],
    ['the volume is not there', { volume: undefined }, 'False SourceNotFound'],
    ['the mirror is not placed', { mirror: { ...mirror, status: {} } }, 'False SourceNotReady'],
    [
      'the mirror is of an older volume',
      { mirror: { ...mirror, status: { node: 'node-b', volume: 'pv-old' } } },
      'False SourceNotReady',
    ],
    [
      'the mirror has no buffer',
      { mirror: { ...mirror, spec: { ...mirror.spec, buffer: undefined } } },
      'False NoBuffer',
    ],
  ] as [string, Partial<SnapshotWorld>, string][])('nothing is asked while %s', (_, change, reason) => {
    plan(change);
    const result = plan();
    expect([ready(result), result.actions]).toEqual([reason, []]);
  });

  test('after a failover it is asked for where the primary is now', () => {
    requesting();
    plan({ volume: { ...volume, status: { ...volume.status, node: 'node-b', epoch: 2 } } });
    expect(plan().actions).toEqual([
      { type: 'put-snapshot', node: 'node-b', volume: 'pv-data-uid', snapshot: 'snap-s-uid', request: {} },
    ]);
  });
});

describe('keeping', () => {
  beforeEach(() => {
    plan({ outcomes: answered(requesting(), view()) });
    world = { ...world, outcomes: new Map() };
  });

  test.each([
    [
      'invalid',
      { kind: 'present', view: view({ state: 'Invalid', valid: false, reason: 'full' }) },
      'False Invalidated',
    ],
    ['gone', { kind: 'absent' }, 'False Lost'],
    ['unseen', { kind: 'unreachable', message: 'x' }, 'Unknown AgentUnreachable'],
    ['on a node without agent', { kind: 'no-agent' }, 'Unknown NoAgent'],
  ] as [string, SnapshotWorld['held'], string][])('a snapshot that is %s is never taken anew', (_, held, reason) => {
    const result = plan({ held });
    expect([ready(result), result.actions]).toEqual([reason, []]);
    expect(result.status.takenAt).toBe('2026-01-01T00:00:00.123Z');
  });

  test('it expires by its age', () => {
    const spec = { ...world.snapshot.spec, retention: { deleteAfter: '1h' } };
    const young = plan({ snapshot: { ...world.snapshot, spec }, held: { kind: 'present', view: view() } });
    expect(young).toMatchObject({ expired: false, expiresAtMs: Date.UTC(2026, 0, 1, 1, 0, 0, 123) });
    expect(plan({ nowMs: Date.UTC(2026, 0, 1, 1, 0, 0, 123) }).expired).toBe(true);
  });
});

describe('removing', () => {
  function deleteIt(annotations: Record<string, string> = {}): void {
    const { snapshot } = world;
    const metadata = { ...snapshot.metadata, deletionTimestamp: world.now, annotations };
    world = { ...world, snapshot: { ...snapshot, metadata }, outcomes: new Map() };
  }

  const done = (result: SnapshotPlan) => new Map([...world.outcomes, ...answered(result, view())]);

  test('one that was never asked for is released at once', () => {
    plan({ mirror: undefined });
    deleteIt();
    expect(plan()).toMatchObject({ finalizer: 'release', actions: [] });
  });

  test('one that was taken is removed where it is', () => {
    plan({ outcomes: answered(requesting(), view()) });
    deleteIt();
    const removal = plan();
    expect(removal.actions).toEqual([
      { type: 'delete-snapshot', node: 'node-b', volume: 'pv-data-uid', snapshot: 'snap-s-uid' },
    ]);
    expect(plan({ outcomes: done(removal) })).toMatchObject({ finalizer: 'release', actions: [] });
  });

  test('one that may still be made is forgotten at the primary first', () => {
    requesting();
    deleteIt();
    const forgetting = plan({ requested: { kind: 'present', view: view({ state: 'Waiting' }) } });
    expect(forgetting.actions.map(({ node }) => node)).toEqual(['node-a']);
    const blocked = plan({ outcomes: done(forgetting) });
    expect([blocked.finalizer, blocked.actions]).toEqual(['keep', []]);
    const removal = plan({ requested: { kind: 'absent' } });
    expect(removal.actions.map(({ node }) => node)).toEqual(['node-b']);
    expect(plan({ outcomes: done(removal) }).finalizer).toBe('release');
  });

  test('one that cannot be removed stays and says why, until it is abandoned', () => {
    plan({ outcomes: answered(requesting(), view()) });
    deleteIt();
    const outcomes = failed(plan(), 'InUse');
    const blocked = plan({ outcomes });
    expect(blocked.finalizer).toBe('keep');
    expect(blocked.status.conditions?.[1]).toMatchObject({ type: 'DeletionBlocked', status: 'True', reason: 'InUse' });
    deleteIt({ [abandonAnnotation]: 'true' });
    expect(plan({ outcomes }).finalizer).toBe('release');
  });
});
