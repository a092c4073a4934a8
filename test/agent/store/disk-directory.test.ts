import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DiskDirectory } from '../../../agent/store/disk-directory.ts';

let root: string;
let directory: DiskDirectory;
beforeEach(async () => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'understudy-directory-'));
  directory = await DiskDirectory.open(path.join(root, 'a', 'b'));
});
afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

test('creates files whole, with or without their space, and opens them again as they are', async () => {
  for (const [name, space] of [
    ['thick', 'allocate'],
    ['sparse', 'sparse'],
  ] as const) {
    const file = await directory.open(name, { create: { size: 1024 * 1024, space } });
    expect(file.size).toBe(1024 * 1024);
    await file.close();
    const again = await directory.open(name, { create: { size: 5, space } });
    expect(again.size).toBe(1024 * 1024);
    await again.close();
  }
  expect(fs.statSync(path.join(directory.path, 'thick')).blocks * 512).toBeGreaterThanOrEqual(1024 * 1024);
  expect(fs.statSync(path.join(directory.path, 'sparse')).blocks).toBe(0);
  expect(await directory.list()).toEqual(['sparse', 'thick']);
  await expect(directory.open('missing')).rejects.toMatchObject({ code: 'NotFound' });
});

test('replaces a file as a whole, and leaves nothing else', async () => {
  expect(await directory.readFile('f')).toBeUndefined();
  await directory.writeFile('f', Buffer.from('old'));
  await directory.writeFile('f', Buffer.from('new'));
  expect(Buffer.from((await directory.readFile('f')) ?? [])).toEqual(Buffer.from('new'));
  expect(fs.readdirSync(directory.path)).toEqual(['f']);
  await directory.remove('f');
  await directory.remove('f');
  expect(await directory.list()).toEqual([]);
});

test('neither lists nor minds what a crash left of a temporary file', async () => {
  fs.writeFileSync(path.join(directory.path, '.f.tmp'), 'half');
  expect(await directory.list()).toEqual([]);
  const file = await directory.open('f', { create: { size: 4096, space: 'sparse' } });
  const content = new Uint8Array(4096);
  await file.read(0, content);
  expect(content).toEqual(new Uint8Array(4096));
  await file.close();
  fs.writeFileSync(path.join(directory.path, '.f.tmp'), 'half');
  await directory.remove('f');
  expect(fs.readdirSync(directory.path)).toEqual([]);
});

test('takes plain names only', async () => {
  for (const name of ['', '.', '..', 'a/b', '.hidden', 'a\0b', 'x'.repeat(300)]) {
    await expect(directory.writeFile(name, new Uint8Array(1))).rejects.toMatchObject({ code: 'Invalid' });
    await expect(directory.open(name)).rejects.toMatchObject({ code: 'Invalid' });
  }
});

test('says which folder could not be made, and how much space there is', async () => {
  fs.writeFileSync(path.join(root, 'file'), '');
  await expect(DiskDirectory.open(path.join(root, 'file', 'x'))).rejects.toThrow(/cannot open the folder .*file/);
  const { totalBytes, freeBytes } = await directory.space();
  expect(totalBytes).toBeGreaterThan(0);
  expect(freeBytes).toBeLessThanOrEqual(totalBytes);
});
