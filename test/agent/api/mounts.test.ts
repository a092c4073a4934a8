import { describe, expect, test } from 'vitest';
import { startApi } from './support/api.ts';

const volumeMount = '/v1/volumes/v1/mounts/m1';
const snapshotMount = '/v1/volumes/v1/snapshots/s1/mounts/m2';

test('a volume is mounted, listed and unmounted', async () => {
  const { request } = await startApi();
  expect(await request('PUT', volumeMount, { target: '/mnt/a' })).toMatchObject({
    status: 200,
    json: { mount: 'm1', volume: 'v1', target: '/mnt/a', fsType: 'ext4', readOnly: false },
  });
  expect((await request('GET', '/v1/mounts')).json).toHaveLength(1);
  expect(await request('DELETE', volumeMount)).toMatchObject({ status: 204 });
  expect(await request('DELETE', volumeMount)).toMatchObject({ status: 204 });
  expect((await request('GET', '/v1/mounts')).json).toEqual([]);
});

test('a snapshot is mounted and unmounted', async () => {
  const { request, mounts } = await startApi();
  expect(await request('PUT', snapshotMount, { target: '/mnt/b', options: ['noatime'] })).toMatchObject({
    status: 200,
    json: { mount: 'm2', volume: 'v1', snapshot: 's1', readOnly: true },
  });
  expect(await request('DELETE', snapshotMount)).toMatchObject({ status: 204 });
  expect(mounts.views).toEqual([]);
});

test("the path of another snapshot, or of the volume, does not undo a snapshot's mount", async () => {
  const { request, mounts } = await startApi();
  await request('PUT', snapshotMount, { target: '/mnt/b' });
  for (const path of ['/v1/volumes/v1/mounts/m2', '/v1/volumes/v1/snapshots/s2/mounts/m2']) {
    expect(await request('DELETE', path)).toMatchObject({
      status: 409,
      json: { code: 'Conflict', detail: 'mount "m2" of volume "v1" is of snapshot "s1"; unmount it there' },
    });
  }
  expect(mounts.views).toHaveLength(1);
});

describe('a target or an option that could reach elsewhere is refused', () => {
  test.each([
    [{}, 'target', 'missing: expected a string'],
    [{ target: 'mnt' }, 'target', 'expected an absolute path, got "mnt"'],
    [{ target: '/mnt/../etc' }, 'target', 'must not contain "." or "..", got "/mnt/../etc"'],
    [{ target: '/mnt', options: ['a b'] }, 'options[0]', 'expected text like'],
  ])('%j', async (body, key, message) => {
    const { request, mounts } = await startApi();
    for (const path of [volumeMount, snapshotMount]) {
      const answer = await request('PUT', path, body);
      expect(answer).toMatchObject({ status: 400, json: { errors: [{ path: key }] } });
      expect(answer.json.errors[0].message).toContain(message);
    }
    expect(mounts.views).toEqual([]);
  });

  test('a filesystem that is not supported', async () => {
    const { request } = await startApi();
    expect((await request('PUT', volumeMount, { target: '/mnt', fsType: 'ntfs' })).json.errors).toEqual([
      { path: 'fsType', message: 'expected "ext4", "xfs" or "btrfs", got "ntfs"' },
    ]);
  });
});
