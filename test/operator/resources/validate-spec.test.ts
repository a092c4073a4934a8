import { describe, expect, test } from 'vitest';
import { findCondition, kubeTime, setConditions } from '../../../operator/resources/conditions.ts';
import { parseDurationMs } from '../../../operator/resources/duration.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import type { CustomResource } from '../../../operator/resources/resource.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { acceptedPart, describeViolations, validateSpec } from '../../../operator/resources/validate-spec.ts';

/** What is wrong with a spec, as one text; "" if nothing is. */
function wrong<Spec extends object, Status>(
  resource: CustomResource<Spec, Status>,
  spec: unknown,
  before?: object,
): string {
  const accepted = before && acceptedPart(resource, resource.spec.parse({ ...before }) as Spec);
  const result = validateSpec(resource, spec, accepted);
  return result.ok ? '' : describeViolations(result.violations);
}

const volume = { size: '1Gi', nodeName: 'a' };
const mirror = { primaryVolumeRef: { name: 'v' }, nodeName: 'b' };

describe('a PrimaryVolume', () => {
  test.each([
    ['as the quickstart has it', volume, ''],
    ['without a size', { nodeName: 'a' }, 'spec.size: missing: expected'],
    ['of an odd size', { ...volume, size: 5000 }, 'spec.size: expected a multiple of 4096 bytes, got 5000'],
    ['of no size', { ...volume, size: '0' }, 'spec.size: expected a quantity of at least one byte'],
    ['of an enormous size', { ...volume, size: '9Pi' }, 'spec.size: expected a quantity'],
    ['nowhere', { size: '1Gi' }, 'spec.nodeName: expected exactly one of nodeName and nodeSelector, got neither'],
    ['here and there', { ...volume, nodeSelector: { a: 'b' } }, 'got both'],
    ['anywhere', { size: '1Gi', nodeSelector: {} }, 'spec.nodeSelector: expected at least one label'],
    [
      'with an unknown filesystem',
      { ...volume, fsType: 'ntfs' },
      'spec.fsType: expected "ext4", "xfs" or "btrfs", got "ntfs"',
    ],
    ['with a path for a pool', { ...volume, pool: '../x' }, 'spec.pool: expected lower-case letters'],
    ['that is no object', 7, 'spec: expected an object, got 7'],
    ['that is missing', undefined, 'spec: missing: expected an object'],
  ])('%s', (_, spec, message) => {
    expect(wrong(primaryVolumes, spec)).toMatch(message === '' ? /^$/ : new RegExp(quoted(message)));
  });

  test.each([
    ['grows', { ...volume, size: '2Gi' }, ''],
    ['stays, written differently', { ...volume, size: '1024Mi' }, ''],
    ['shrinks', { ...volume, size: '1G' }, 'spec.size: expected at least the size that it has'],
    [
      'moves to another pool',
      { ...volume, pool: 'fast' },
      'spec.pool: expected the value it was created with: it cannot change, got "fast" instead of "main"',
    ],
    [
      'moves to a selector',
      { size: '1Gi', nodeSelector: { a: 'b' } },
      'spec.nodeName: expected the value it was created with',
    ],
    ['changes its filesystem', { ...volume, fsType: 'xfs' }, 'spec.fsType'],
    ['gets a buffer', { ...volume, buffer: { pool: 'buffer', capacity: '1Gi' } }, ''],
  ])('that %s', (_, spec, message) => {
    expect(wrong(primaryVolumes, spec, volume)).toMatch(message === '' ? /^$/ : new RegExp(quoted(message)));
  });

  test('keeps its buffer where it is, and at least as large', () => {
    const before = { ...volume, buffer: { pool: 'buffer', capacity: '1Gi' } };
    expect(wrong(primaryVolumes, volume, before)).toContain(
      'spec.buffer.pool: expected the pool that the buffer was created in',
    );
    expect(wrong(primaryVolumes, { ...volume, buffer: { pool: 'x', capacity: '1Gi' } }, before)).toContain(
      '"x" instead of "buffer"',
    );
    expect(wrong(primaryVolumes, { ...volume, buffer: { pool: 'buffer', capacity: '1Mi' } }, before)).toContain(
      'cannot shrink',
    );
    expect(wrong(primaryVolumes, { ...volume, buffer: { pool: 'buffer', capacity: '2Gi' } }, before)).toBe('');
  });
});

describe('a StandbyMirror', () => {
  test('fails over by itself only if it is synchronous', () => {
    const automatic = { ...mirror, failover: { policy: 'Automatic' } };
    expect(wrong(standbyMirrors, automatic)).toBe('');
    expect(wrong(standbyMirrors, { ...automatic, mode: 'Asynchronous' })).toContain(
      'spec.failover.policy: expected Manual while mode is Asynchronous',
    );
  });

  test('stays with its volume and its node', () => {
    expect(wrong(standbyMirrors, { ...mirror, primaryVolumeRef: { name: 'w' } }, mirror)).toContain(
      'spec.primaryVolumeRef',
    );
    expect(wrong(standbyMirrors, { ...mirror, nodeName: 'c' }, mirror)).toContain('spec.nodeName');
    expect(wrong(standbyMirrors, { ...mirror, onLoss: 'Continue' }, mirror)).toBe('');
  });
});

test('a Snapshot has one source, which stays', () => {
  const spec = { source: { mirror: 'm' } };
  expect(wrong(snapshots, spec)).toBe('');
  expect(wrong(snapshots, { source: {} })).toContain(
    'spec.source: expected exactly one of mirror and volume, got neither',
  );
  expect(wrong(snapshots, { source: { mirror: 'n' } }, spec)).toContain('spec.source');
  expect(wrong(snapshots, { ...spec, retention: { deleteAfter: 'soon' } })).toContain('expected a duration');
});

test('a NodePool is a directory or devices', () => {
  expect(wrong(nodePools, { node: 'a', name: 'p', directory: '/x', devices: ['/dev/x'] })).toContain('got both');
  expect(wrong(nodePools, { node: 'a', name: 'p', devices: ['/dev/x'] })).toBe('');
});

test('durations', () => {
  expect(['500ms', '30s', '1h30m', '2m5s'].map(parseDurationMs)).toEqual([500, 30_000, 5_400_000, 125_000]);
  for (const text of ['', '5', '1d', '-1s', '1.5h']) expect(() => parseDurationMs(text)).toThrow('is not a duration');
});

describe('conditions', () => {
  const finding = { type: 'Ready', status: 'False', reason: 'Pending', message: 'm' } as const;

  test('remember when their status changed, not their reason', () => {
    const first = setConditions(undefined, [finding], { now: '2026-01-01T00:00:00Z', generation: 1 });
    const waiting = setConditions(first, [{ ...finding, reason: 'Waiting' }], {
      now: '2026-01-01T00:00:09Z',
      generation: 2,
    });
    expect(waiting).toEqual([
      { ...finding, reason: 'Waiting', lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 2 },
    ]);
    const ready = setConditions(waiting, [{ ...finding, status: 'True' }], {
      now: '2026-01-01T00:00:10Z',
      generation: 2,
    });
    expect(findCondition(ready, 'Ready')?.lastTransitionTime).toBe('2026-01-01T00:00:10Z');
  });

  test('that are not found any more are gone', () => {
    const before = setConditions(undefined, [finding, { ...finding, type: 'DeletionBlocked' }], {
      now: 'x',
      generation: undefined,
    });
    expect(setConditions(before, [finding], { now: 'y', generation: undefined }).map(({ type }) => type)).toEqual([
      'Ready',
    ]);
  });

  test('have times as Kubernetes writes them', () => {
    expect(kubeTime(Date.UTC(2026, 0, 2, 3, 4, 5, 678))).toBe('2026-01-02T03:04:05Z');
  });
});

function quoted(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
