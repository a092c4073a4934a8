import { describe, expect, test } from 'vitest';
import { mountedAt, parseMountTable, showsDevice } from '../../../agent/attach/mount-table.ts';

const table = `22 26 0:21 / /sys rw,relatime - sysfs sysfs rw
23 26 0:6 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,size=12334416k
42 26 7:0 / /srv/with\\040blank\\011tab\\134back\\012line rw,nosuid master:1 propagate_from:2 - ext4 /dev/loop0 rw
43 26 0:39 / /srv/b ro - btrfs /dev/loop1 rw,subvol=/
44 26 0:6 /loop2 /pods/raw rw - devtmpfs devtmpfs rw
45 42 0:50 / /srv/ümlaut rw - tmpfs  rw
46 26 0:51 / /srv/b rw - tmpfs none rw
not a line of the table
`;

describe('parseMountTable', () => {
  test('reads every field, with and without optional ones', () => {
    const entries = parseMountTable(table);
    expect(entries).toHaveLength(7);
    expect(entries[0]).toEqual({
      device: '0:21',
      root: '/',
      mountPoint: '/sys',
      options: ['rw', 'relatime'],
      fsType: 'sysfs',
      source: 'sysfs',
    });
    expect(entries[2]).toMatchObject({
      device: '7:0',
      options: ['rw', 'nosuid'],
      fsType: 'ext4',
      source: '/dev/loop0',
    });
  });

  test('undoes the escapes of paths, and keeps other characters', () => {
    const entries = parseMountTable(table);
    expect(entries[2]?.mountPoint).toBe('/srv/with blank\ttab\\back\nline');
    expect(entries[5]?.mountPoint).toBe('/srv/ümlaut');
  });

  test('accepts an empty source, and leaves out what is no entry', () => {
    expect(parseMountTable(table)[5]?.source).toBe('');
    expect(parseMountTable('')).toEqual([]);
    expect(parseMountTable('1 2 3:4 / /x rw\n1 2 3:4 / /x rw - ext4\n')).toEqual([]);
  });
});

test('mountedAt answers with what is on top', () => {
  const entries = parseMountTable(table);
  expect(mountedAt(entries, '/srv/b')?.fsType).toBe('tmpfs');
  expect(mountedAt(entries, '/srv')).toBeUndefined();
});

test('showsDevice sees filesystems on a device, and the bind-mounted device node', () => {
  const shown = (device: string) =>
    parseMountTable(table)
      .filter((entry) => showsDevice(entry, device))
      .map((entry) => entry.mountPoint);
  expect(shown('/dev/loop1')).toEqual(['/srv/b']);
  expect(shown('/dev/loop2')).toEqual(['/pods/raw']);
  expect(shown('/dev/loop')).toEqual([]);
});
