import { beforeEach, expect, test } from 'vitest';
import type { VolumeView } from '../../../agent/api/contract/volumes.ts';
import type { Observation } from '../../../operator/planning/actions.ts';
import { isBeingRestored, planRestore } from '../../../operator/planning/plan-restore.ts';
import type { RestorePlan, RestoreWorld } from '../../../operator/planning/restore-plan.ts';
import { finalizer, restoreUidLabel } from '../../../operator/resources/group.ts';
import { type PrimaryVolume, primaryVolumeSpecSchema } from '../../../operator/resources/primary-volume.ts';
import { type Snapshot, snapshotSpecSchema } from '../../../operator/resources/snapshot.ts';
import { type SnapshotRestore, snapshotRestoreSpecSchema } from '../../../operator/resources/snapshot-restore.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const meta = (name: string) => ({ name, namespace: 'shop', uid: `${name}-uid`, resourceVersion: '1', generation: 1 });

const volume: PrimaryVolume = {
  apiVersion,
  kind: 'PrimaryVolume',
  metadata: meta('data'),
  spec: primaryVolumeSpecSchema.parse({ size: '1Gi', nodeName: 'node-a' }),
  status: { node: 'node-a', epoch: 1, volume: 'pv-data-uid' },
};

/** A Snapshot that is ready, on node-b. */
function snapshotOf(name: string, labels: Record<string, string> = {}): Snapshot {
  const ready = { type: 'Ready', status: 'True' as const, reason: 'Taken', message: '', lastTransitionTime: '' };
  return {
    apiVersion,
    kind: 'Snapshot',
    metadata: { ...meta(name), labels },
    spec: snapshotSpecSchema.parse({ source: { mirror: 'm' } }),
    status: { node: 'node-b', volume: 'pv-data-uid', takenAt: '2026-01-01T00:00:00Z', conditions: [ready] },
  };
}

function seen(more: Partial<VolumeView> = {}): Observation {
  const mirrors = [
    { name: 'm', address: 'b:7072', mode: 'synchronous', state: 'InSync', dirtyBytes: 0, lagBytes: 0 } as const,
  ];
  return { kind: 'present', view: { volume: 'pv-data-uid', attached: false, mirrors, ...more } as VolumeView };
}

let world: RestoreWorld;
beforeEach(() => {
  const restore: SnapshotRestore = {
    apiVersion,
    kind: 'SnapshotRestore',
    metadata: { ...meta('undo'), finalizers: [finalizer] },
    spec: snapshotRestoreSpecSchema.parse({ snapshot: 's' }),
  };
  world = {
    now: '2026-01-01T01:00:00Z',
    restore,
    snapshot: snapshotOf('s'),
    volume,
    before: snapshotOf('before-restore-undo', { [restoreUidLabel]: 'undo-uid' }),
    primary: seen(),
    keeperAddress: 'b:7072',
    users: [],
    outcomes: new Map(),
  };
});

/** Plans, and writes the status down. */
function plan(change: Partial<RestoreWorld> = {}): RestorePlan {
  world = { ...world, ...change };
  const result = planRestore(world);
  world = { ...world, restore: { ...world.restore, status: result.status } };
  return result;
}

test('it is ordered only after that is written down, at the primary, from the mirror that keeps the snapshot', () => {
  const first = plan();
  expect(first.actions).toEqual([]);
  expect(first.status.restore).toBe('restore-undo-uid');
  expect(plan().actions).toEqual([
    {
      type: 'put-restore',
      node: 'node-a',
      volume: 'pv-data-uid',
      request: {
        name: 'restore-undo-uid',
        snapshot: 'snap-s-uid',
        mirror: 'm',
        before: 'snap-before-restore-undo-uid',
        allowInUse: false,
      },
    },
  ]);
});

test('nothing is written down or ordered before the finalizer is on the object', () => {
  world = { ...world, restore: { ...world.restore, metadata: meta('undo') } };
  const { status, finalizer: planned, actions, makeBefore } = plan({ before: undefined });
  expect([status.restore, planned, actions, makeBefore]).toEqual([undefined, 'hold', [], undefined]);
});

test('where the keeper has become the primary, it restores from a snapshot of its own', () => {
  plan();
  const moved = { ...volume, status: { ...volume.status, node: 'node-b', epoch: 2 } };
  const [action] = plan({ volume: moved, primary: seen({ mirrors: [] }) }).actions;
  expect(action).toMatchObject({ node: 'node-b', request: { snapshot: 'snap-s-uid' } });
  expect(action).not.toMatchObject({ request: { mirror: expect.anything() } });
});

test('without a mirror to where the snapshot is, it says so', () => {
  plan();
  expect(plan({ primary: seen({ mirrors: [] }) }).status.conditions).toMatchObject([{ reason: 'NoMirror' }]);
});

test('a snapshot of an earlier volume of that name is not restored into this one', () => {
  const other = { ...volume, metadata: { ...volume.metadata, uid: 'another' } };
  expect(plan({ volume: other }).status.conditions).toMatchObject([{ reason: 'OtherVolume' }]);
});

test('what was begun and is not known any more is not begun again', () => {
  const running = {
    name: 'restore-undo-uid',
    snapshot: 'snap-s-uid',
    state: 'Running',
    startedAt: '2026-01-01T01:00:00Z',
  } as const;
  plan();
  expect(isBeingRestored(snapshotOf('s'), [world.restore])).toBe(true);
  expect(plan({ primary: seen({ restore: running }) }).status.startedAt).toBe(running.startedAt);
  const { actions, status } = plan({ primary: seen({ restore: { ...running, name: 'by-hand' } }) });
  expect(actions).toEqual([]);
  expect(status).toMatchObject({ completedAt: world.now, conditions: [{ reason: 'Superseded' }] });
  expect(plan({ primary: undefined }).status.conditions).toMatchObject([{ reason: 'Superseded' }]);
  expect(isBeingRestored(snapshotOf('s'), [world.restore])).toBe(false);
});
