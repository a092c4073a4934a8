import { expect, test } from 'vitest';
import { chooseDriver } from '../../../agent/attach/choose-driver.ts';
import type { AttachDriver } from '../../../agent/attach/driver.ts';

function driver(kind: 'nbd' | 'fuse', reason?: string): AttachDriver {
  return {
    kind,
    survivesRestart: kind === 'nbd',
    unusable: async () => reason,
    attach: async () => ({ device: `/dev/${kind}` }),
    detach: async () => {},
    cut: async () => {},
    abandon: async () => ({ remaining: [] }),
    list: async () => [],
  };
}

const target = { socket: '/s', exportName: 'v', sizeBytes: 512, blockSize: 512, readOnly: false };

test('auto takes the first that can be used', async () => {
  expect((await chooseDriver('auto', [driver('nbd'), driver('fuse')])).kind).toBe('nbd');
  expect((await chooseDriver('auto', [driver('nbd', 'no kernel module'), driver('fuse')])).kind).toBe('fuse');
});

test('a named driver is taken, or none', async () => {
  expect((await chooseDriver('fuse', [driver('nbd'), driver('fuse')])).kind).toBe('fuse');
  expect((await chooseDriver('nbd', [driver('nbd', 'no kernel module'), driver('fuse')])).kind).toBe('none');
});

test('where nothing can be attached, the error names every reason', async () => {
  const none = await chooseDriver('auto', [driver('nbd', 'no kernel module'), driver('fuse', 'there is no /dev/fuse')]);
  const attempt = none.attach(target, { name: 'v' });
  await expect(attempt).rejects.toMatchObject({
    code: 'Unavailable',
    message: expect.stringMatching(/nbd: no kernel module; fuse: there is no \/dev\/fuse/),
  });
  expect(await none.list()).toEqual([]);
  expect(await none.abandon('v')).toEqual({ remaining: [] });
});

test('turned off by configuration, it says so', async () => {
  const off = await chooseDriver('none', [driver('fuse')]);
  await expect(off.attach(target, { name: 'v' })).rejects.toThrow('turned off');
  expect(await (await chooseDriver('nbd', [driver('fuse')])).unusable()).toContain('no driver "nbd"');
});
