import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { IntentBitmap } from '../../../agent/mirror/intent-bitmap.ts';
import { DiskDirectory } from '../../../agent/store/disk-directory.ts';

const region = 4 * 1024 * 1024;
const size = 64 * region;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'intent-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function open(): Promise<IntentBitmap> {
  return IntentBitmap.open(await DiskDirectory.open(folder), 'intent', size);
}

const offsets = (intent: IntentBitmap) => [...intent.ranges()].map(({ offset }) => offset / region);

test('a write may go ahead only when its bits are on disk, and they are found again', async () => {
  const intent = await open();
  expect(intent.touch(region - 512, 1024)).toBe(false);
  await intent.prepare(region - 512, 1024);
  expect(intent.touch(region - 512, 1024)).toBe(true);
  const reopened = await open();
  expect(offsets(reopened)).toEqual([0, 1]);
});

test('a checkpoint clears what has been quiet since it began, and nothing else', async () => {
  const intent = await open();
  await intent.prepare(0, 3 * region);
  intent.touch(0, 3 * region);
  expect(intent.beginCheckpoint(0)).toBe(true);
  intent.touch(region, 512);
  intent.endCheckpoint();
  await intent.flush();
  expect(offsets(await open())).toEqual([1]);
});

test('an abandoned checkpoint clears nothing', async () => {
  const intent = await open();
  await intent.prepare(0, region);
  intent.touch(0, region);
  intent.beginCheckpoint(0);
  intent.abandonCheckpoint();
  expect(offsets(intent)).toEqual([0]);
  intent.beginCheckpoint(0);
  intent.endCheckpoint();
  expect(offsets(intent)).toEqual([]);
});

test('a region stays marked until it has been cold for so many rounds, and is cleared then', async () => {
  const intent = await open();
  await intent.prepare(0, 2 * region);
  intent.touch(0, 2 * region);
  for (let round = 0; round < 3; round += 1) {
    expect(intent.beginCheckpoint(3)).toBe(false);
    intent.touch(region, 512);
  }
  expect(intent.beginCheckpoint(3)).toBe(true);
  intent.endCheckpoint();
  expect(offsets(intent)).toEqual([1]);
});

test('a page that is damaged anywhere counts as all set', async () => {
  const intent = await open();
  await intent.close();
  const file = path.join(folder, 'intent');
  const whole = await readFile(file);
  for (const at of [0, 2000, 4081, 4086, 4090, 4095]) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    await writeFile(file, damaged);
    expect(offsets(await open())).toHaveLength(64);
  }
  await writeFile(file, whole.subarray(0, 1000));
  expect(offsets(await open())).toHaveLength(64);
});

test('many that prepare at once share commits', async () => {
  const intent = await open();
  await Promise.all(Array.from({ length: 64 }, (_, index) => intent.prepare(index * region, 512)));
  expect(intent.touch(0, size)).toBe(true);
});
