import { expect, test } from 'vitest';
import type { VolumeHandle } from '../../../agent/csi/volume-handle.ts';
import { wantedMount } from '../../../agent/csi/wanted-mount.ts';
import type { AccessMode, VolumeCapability } from '../../../common/csi/messages.ts';

const live: VolumeHandle = { kind: 'live', volume: 'pv-1' };
const snapshot: VolumeHandle = { kind: 'snapshot', volume: 'pv-1', snapshot: 's' };
const latest: VolumeHandle = { kind: 'latest', volume: 'pv-1' };

function mount(mode: AccessMode, mountFlags: string[] = [], fsType = ''): VolumeCapability {
  return { mount: { fsType, mountFlags }, accessMode: { mode } };
}

function wanted(handle: VolumeHandle, capability: VolumeCapability, readOnly = false) {
  return wantedMount(handle, capability, { readOnly });
}

test('a live volume is ext4 and writable unless something says otherwise', () => {
  const writer = mount('SINGLE_NODE_WRITER', ['noatime']);
  expect(wanted(live, writer)).toMatchObject({ readOnly: false, fsType: 'ext4', options: ['noatime'] });
  expect(wanted(live, writer, true).readOnly).toBe(true);
  expect(wanted(live, mount('SINGLE_NODE_READER_ONLY')).readOnly).toBe(true);
  expect(wanted(live, mount('SINGLE_NODE_WRITER', ['ro', 'noatime'])).readOnly).toBe(true);
  expect(wanted(live, mount('SINGLE_NODE_WRITER', ['ro'])).options).toEqual([]);
  expect(wanted(live, mount('SINGLE_NODE_WRITER', [], 'xfs')).fsType).toBe('xfs');
});

test('a snapshot is read-only whatever is asked for, and its type is not what somebody says', () => {
  for (const handle of [snapshot, latest]) {
    expect(wanted(handle, mount('MULTI_NODE_READER_ONLY', [], 'ntfs')).readOnly).toBe(true);
    expect(wanted(handle, mount('SINGLE_NODE_READER_ONLY', ['ro'])).readOnly).toBe(true);
    expect(() => wanted(handle, mount('SINGLE_NODE_WRITER'))).toThrow(/read-only/);
    expect(() => wanted(handle, mount('MULTI_NODE_READER_ONLY', ['rw']))).toThrow(/"rw"/);
  }
});

test.each(['MULTI_NODE_READER_ONLY', 'MULTI_NODE_SINGLE_WRITER', 'MULTI_NODE_MULTI_WRITER', 'UNKNOWN'] as const)(
  'a live volume cannot be used with %s',
  (mode) => {
    expect(() => wanted(live, mount(mode))).toThrow(/access mode/);
  },
);
