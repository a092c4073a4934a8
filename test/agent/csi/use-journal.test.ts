import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SnapshotPins } from '../../../agent/csi/snapshot-pins.ts';
import { type Use, UseJournal } from '../../../agent/csi/use-journal.ts';
import { DiskDirectory } from '../../../agent/store/disk-directory.ts';
import { silentLog } from '../../../common/log.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-csi-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function open(): Promise<UseJournal> {
  return UseJournal.open(await DiskDirectory.open(directory), silentLog);
}

function use(changes: Partial<Use>): Use {
  return {
    kind: 'published',
    path: '/pods/1/mount',
    handle: 'pv-1@latest',
    volume: 'pv-1',
    snapshot: 's1',
    access: 'filesystem',
    accessMode: 'MULTI_NODE_READER_ONLY',
    readOnly: true,
    fsType: 'ext4',
    options: [],
    ...changes,
  };
}

test('is there again when it is opened again', async () => {
  const journal = await open();
  await journal.put(use({}));
  await journal.put(use({ path: '/pods/2/mount', pod: 'default/two' }));
  await journal.put(use({ kind: 'staged', path: '/pods/1/mount' }));
  await journal.remove('published', '/pods/1/mount');
  const again = await open();
  expect(again.uses).toEqual(journal.uses);
  expect(again.find('published', '/pods/2/mount')?.pod).toBe('default/two');
  expect(again.find('published', '/pods/1/mount')).toBeUndefined();
  expect(again.find('staged', '/pods/1/mount')).toBeDefined();
});

test('a path has one record, the last', async () => {
  const journal = await open();
  await Promise.all(['s1', 's2', 's3'].map((snapshot) => journal.put(use({ snapshot }))));
  expect((await open()).uses).toEqual([use({ snapshot: 's3' })]);
});

test('a damaged file is set aside, and everything begins anew', async () => {
  await (await open()).put(use({}));
  const file = join(directory, 'csi.json');
  const content = await readFile(file, 'utf8');
  await writeFile(file, content.replace('"s1"', '"s9"'));
  expect((await open()).uses).toEqual([]);
  expect(await readFile(join(directory, 'csi.json.damaged'), 'utf8')).toContain('"s9"');
});

test('the pods that use a snapshot, or the path where their names are not known', async () => {
  const journal = await open();
  const pins = new SnapshotPins(journal);
  await journal.put(use({ kind: 'staged', path: '/staging' }));
  expect(pins.usersOf('pv-1', 's1')).toEqual(['the kubelet at /staging']);
  await journal.put(use({ pod: 'default/one' }));
  await journal.put(use({ path: '/pods/2/mount' }));
  await journal.put(use({ path: '/pods/3/mount', snapshot: 's2', pod: 'default/three' }));
  expect(pins.usersOf('pv-1', 's1')).toEqual(['default/one', 'a pod at /pods/2/mount']);
  expect(pins.usersOf('pv-2', 's1')).toEqual([]);
});
