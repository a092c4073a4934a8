import { describe, expect, test } from 'vitest';
import { parseBlkid } from '../../../agent/attach/filesystem.ts';
import { nbdUri } from '../../../agent/attach/fuse-driver.ts';
import { checkOptions } from '../../../agent/attach/mount-options.ts';

describe('parseBlkid', () => {
  test('a filesystem', () => {
    const output = 'DEVNAME=/dev/loop0\nUUID=d0b4c5d8-41e5\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n';
    expect(parseBlkid(output)).toEqual({
      fsType: 'ext4',
      uuid: 'd0b4c5d8-41e5',
      description: 'a filesystem of type ext4',
    });
  });

  test('what is no filesystem is never one, whatever its type', () => {
    expect(parseBlkid('UUID=1\nTYPE=crypto_LUKS\nUSAGE=crypto\n')).toMatchObject({
      fsType: undefined,
      description: 'crypto_LUKS',
    });
    expect(parseBlkid('PTUUID=1\nPTTYPE=gpt\n')).toMatchObject({
      fsType: undefined,
      description: 'a gpt partition table',
    });
    expect(parseBlkid('DEVNAME=/dev/loop0\n')).toMatchObject({
      fsType: undefined,
      description: 'an unknown signature',
    });
  });

  test('values may contain the separator', () => {
    expect(parseBlkid('UUID=a=b\nTYPE=xfs\nUSAGE=filesystem\n').uuid).toBe('a=b');
  });
});

describe('checkOptions', () => {
  test('splits what comes in one string', () => {
    expect(checkOptions(['noatime,discard', 'commit=30'], 'volume')).toEqual(['noatime', 'discard', 'commit=30']);
  });

  test.each(['remount', 'noatime,bind', 'loop=/dev/loop7', 'rw', 'x-systemd.automount', 'logdev=/dev/sda'])(
    'refuses %s',
    (option) => {
      const check = () => checkOptions([option], 'volume');
      expect(check).toThrow(expect.objectContaining({ code: 'Invalid' }));
    },
  );

  test('points to readOnly', () => {
    expect(() => checkOptions(['ro'], 'volume')).toThrow('readOnly');
  });

  test.each(['suid', 'dev'])('refuses %s for a snapshot only', (option) => {
    expect(checkOptions([option], 'volume')).toEqual([option]);
    expect(() => checkOptions([option], 'snapshot')).toThrow(expect.objectContaining({ code: 'Invalid' }));
  });
});

test('nbdUri escapes what has a meaning in it', () => {
  expect(nbdUri({ socket: '/run/a b?c.sock', exportName: 'vol@snap/1' })).toBe(
    'nbd+unix:///vol%40snap%2F1?socket=%2Frun%2Fa%20b%3Fc.sock',
  );
});
