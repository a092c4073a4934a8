import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DiskFile } from '../../../agent/store/disk-file.ts';

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'understudy-disk-file-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

function create(size: number): { file: DiskFile; name: string } {
  const name = path.join(folder, 'file');
  fs.writeFileSync(name, new Uint8Array(0));
  fs.truncateSync(name, size);
  return { file: DiskFile.open(name), name };
}

const KiB = 1024;

describe('a file', () => {
  test('returns what was written, at once while the page cache has it', async () => {
    const { file, name } = create(1024 * KiB);
    const data = new Uint8Array(100_000).map((_, index) => index % 251);
    expect(file.write(12_345, data)).toBeUndefined();
    const target = new Uint8Array(100_000);
    expect(file.read(12_345, target)).toBeUndefined();
    expect(target).toEqual(data);
    await file.sync();
    await file.close();
    expect(fs.readFileSync(name).subarray(12_345, 112_345)).toEqual(Buffer.from(data));
  });

  test('reads from the disk what the page cache does not have', async () => {
    const { file, name } = create(0);
    await file.resize(4096 * KiB, 'sparse');
    for (let block = 0; block < 4096 * KiB; block += 64 * KiB)
      file.write(block, new Uint8Array(64 * KiB).fill(block / KiB / 64));
    await file.sync();
    execFileSync('dd', [`of=${name}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
    const targets = Array.from({ length: 64 }, () => new Uint8Array(64 * KiB));
    await Promise.all(targets.map((target, index) => file.read(index * 64 * KiB, target)));
    for (const [index, target] of targets.entries()) expect(new Set(target)).toEqual(new Set([index]));
    await file.close();
  });

  test('is zeroed with its space kept or given back', async () => {
    const { file, name } = create(1024 * KiB);
    const blocks = () => fs.statSync(name).blocks * 512;
    for (const length of [16 * KiB, 256 * KiB]) {
      for (const space of ['keep', 'release'] as const) {
        file.write(0, new Uint8Array(1024 * KiB).fill(7));
        await file.sync();
        const before = blocks();
        await file.zero(128 * KiB, length, space);
        await file.sync();
        if (space === 'keep') expect(blocks()).toBeGreaterThanOrEqual(before);
        else expect(blocks()).toBeLessThan(before);
        const content = new Uint8Array(1024 * KiB);
        await file.read(0, content);
        expect(content.indexOf(0)).toBe(128 * KiB);
        expect(content.filter((byte) => byte === 0).length).toBe(length);
      }
    }
    await file.close();
  });

  test('zeroes long ranges without holding up the caller', async () => {
    const { file } = create(64 * 1024 * KiB);
    file.write(0, new Uint8Array(KiB).fill(1));
    file.write(64 * 1024 * KiB - KiB, new Uint8Array(KiB).fill(1));
    const zeroing = file.zero(0, 64 * 1024 * KiB, 'release');
    expect(zeroing).toBeInstanceOf(Promise);
    await zeroing;
    expect(file.extents(0, 64 * 1024 * KiB)).toEqual([{ length: 64 * 1024 * KiB, zero: true, hole: true }]);
    await file.close();
  });

  test('tells data from holes', async () => {
    const { file } = create(1024 * KiB);
    file.write(64 * KiB, new Uint8Array(64 * KiB).fill(1));
    expect(file.extents(0, 1024 * KiB)).toEqual([
      { length: 64 * KiB, zero: true, hole: true },
      { length: 64 * KiB, zero: false, hole: false },
      { length: 896 * KiB, zero: true, hole: true },
    ]);
    expect(file.extents(80 * KiB, 16 * KiB)).toEqual([{ length: 16 * KiB, zero: false, hole: false }]);
    expect(file.extents(512 * KiB, 512)).toEqual([{ length: 512, zero: true, hole: true }]);
    await file.close();
  });

  test('grows with its space allocated', async () => {
    const { file, name } = create(0);
    await file.resize(8 * 1024 * KiB, 'allocate');
    await file.sync();
    expect(file.size).toBe(8 * 1024 * KiB);
    expect(fs.statSync(name).blocks * 512).toBeGreaterThanOrEqual(8 * 1024 * KiB);
    await file.close();
  });

  test('refuses what lies outside it, and everything once closed', async () => {
    const { file } = create(KiB);
    await expect(file.read(1000, new Uint8Array(100))).rejects.toMatchObject({ code: 'Invalid' });
    await expect(file.write(-1, new Uint8Array(1))).rejects.toMatchObject({ code: 'Invalid' });
    await file.close();
    await file.close();
    await expect(file.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'Closed' });
    await expect(file.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'Closed' });
    await expect(file.sync()).rejects.toMatchObject({ code: 'Closed' });
  });

  test('that became shorter behind our back is an error, not an endless read', async () => {
    const { file, name } = create(8 * KiB);
    fs.truncateSync(name, 4 * KiB);
    await expect(file.read(0, new Uint8Array(8 * KiB))).rejects.toMatchObject({ code: 'Io' });
    await file.close();
  });

  test('that is missing, or full, is said to be so', async () => {
    expect(() => DiskFile.open(path.join(folder, 'none'))).toThrow(expect.objectContaining({ code: 'NotFound' }));
    const full = new DiskFile('/dev/full', fs.openSync('/dev/full', 'r+'), 4096);
    await expect(full.write(0, new Uint8Array(512))).rejects.toMatchObject({
      code: 'NoSpace',
      message: expect.stringContaining('/dev/full'),
    });
    await full.close();
  });
});

test('a sync that failed fails the file for good', async () => {
  // What has no disk behind it cannot be synced: fdatasync answers EINVAL.
  const fd = fs.openSync('/dev/null', 'r+');
  const file = new DiskFile('/dev/null', fd, 4096);
  await expect(file.sync()).rejects.toMatchObject({ code: 'Io', message: expect.stringContaining('/dev/null') });
  await expect(file.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'Io' });
  await expect(file.zero(0, 512, 'keep')).rejects.toMatchObject({ code: 'Io' });
  await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
  await expect(file.resize(512, 'sparse')).rejects.toMatchObject({ code: 'Io' });
  await file.close();
});

describe('a raw block device', () => {
  const canLoop = process.getuid?.() === 0 && fs.existsSync('/dev/loop-control');

  test.skipIf(!canLoop)('has its size, its data and its zeroes (needs root and loop devices)', async () => {
    const image = path.join(folder, 'image');
    fs.writeFileSync(image, new Uint8Array(0));
    fs.truncateSync(image, 4096 * KiB);
    const device = execFileSync('losetup', ['--find', '--show', image]).toString().trim();
    try {
      const file = DiskFile.open(device);
      expect(file.size).toBe(4096 * KiB);
      file.write(0, new Uint8Array(4096 * KiB).fill(3));
      await file.zero(64 * KiB, 64 * KiB, 'release');
      await file.zero(256 * KiB, 64 * KiB, 'keep');
      await file.sync();
      const content = new Uint8Array(4096 * KiB);
      await file.read(0, content);
      expect(content.filter((byte) => byte === 0).length).toBe(128 * KiB);
      expect(content[64 * KiB]).toBe(0);
      expect(content[256 * KiB]).toBe(0);
      const extents = file.extents(0, 4096 * KiB);
      expect(extents.reduce((sum, extent) => sum + extent.length, 0)).toBe(4096 * KiB);
      await file.close();
    } finally {
      execFileSync('losetup', ['--detach', device]);
    }
  });
});
