import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AttachmentJournal, type MountRecord } from '../../../agent/attach/attachment-journal.ts';
import type { StorageDirectory } from '../../../agent/core/storage.ts';
import { DiskDirectory } from '../../../agent/store/disk-directory.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';

let path: string;
let directory: DiskDirectory;

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'understudy-journal-'));
  directory = await DiskDirectory.open(path);
});

afterEach(() => rm(path, { recursive: true, force: true }));

const attachment = { name: 'v-1', driver: 'fuse', volume: 'v', readOnly: false, device: '/dev/loop0' } as const;

function mountRecord(mount: string): MountRecord {
  const target = `/srv/${mount}`;
  const options = ['noatime'];
  const place = { target, mountPoint: target, created: [], readOnly: false, options };
  return { volume: 'v', mount, kind: 'filesystem', ...place, state: 'staging' };
}

describe('AttachmentJournal', () => {
  test('is empty at first', async () => {
    const journal = await AttachmentJournal.open(directory, silentLog);
    expect([journal.mounts, journal.attachments]).toEqual([[], []]);
  });

  test('gives back after a restart what was put, changed and removed', async () => {
    const journal = await AttachmentJournal.open(directory, silentLog);
    await journal.putAttachment({ ...attachment, scratch: { snapshot: 's', mount: 'm' } });
    await journal.putAttachment({ ...attachment, name: 'v-2' });
    await journal.removeAttachment('v-2');
    await journal.putMount(mountRecord('a'));
    await journal.putMount(mountRecord('b'));
    await journal.putMount({ ...mountRecord('a'), state: 'mounted', attachment: 'v-1' });
    await journal.removeMount({ volume: 'v', mount: 'b' });
    await journal.putFormat({ volume: 'v', fsType: 'xfs', begunAt: '2026-01-01T00:00:00.000Z' });

    const again = await AttachmentJournal.open(directory, silentLog);
    expect(again.attachments).toEqual([{ ...attachment, scratch: { snapshot: 's', mount: 'm' } }]);
    expect(again.mounts).toEqual([{ ...mountRecord('a'), state: 'mounted', attachment: 'v-1' }]);
    expect(again.findFormat('v')?.fsType).toBe('xfs');
    expect(again.findMount('v', 'a')).toEqual(again.mounts[0]);
    expect(again.findMount('other', 'a')).toBeUndefined();
    expect(again.findAttachment('v-1')?.volume).toBe('v');
  });

  test('concurrent changes are all kept', async () => {
    const journal = await AttachmentJournal.open(directory, silentLog);
    await Promise.all(Array.from({ length: 20 }, (_, index) => journal.putMount(mountRecord(`m${index}`))));
    expect((await AttachmentJournal.open(directory, silentLog)).mounts).toHaveLength(20);
  });

  test('a change counts in memory before it is on disk, and a failed write fails its own caller only', async () => {
    let failing = true;
    const flaky: StorageDirectory = {
      open: (name, options) => directory.open(name, options),
      readFile: (name) => directory.readFile(name),
      writeFile: async (name, content) => {
        if (failing) throw new UnderstudyError('NoSpace', 'the disk is full');
        await directory.writeFile(name, content);
      },
      remove: (name) => directory.remove(name),
      list: () => directory.list(),
      space: () => directory.space(),
    };
    const journal = await AttachmentJournal.open(flaky, silentLog);
    const put = journal.putMount(mountRecord('a'));
    expect(journal.findMount('v', 'a')).toBeDefined();
    await expect(put).rejects.toMatchObject({ code: 'NoSpace' });
    failing = false;
    await journal.putMount(mountRecord('b'));
    expect((await AttachmentJournal.open(directory, silentLog)).mounts.map(({ mount }) => mount)).toEqual(['a', 'b']);
  });

  test.each([
    ['cut off', (text: string) => text.slice(0, text.length / 2)],
    ['with a changed byte', (text: string) => text.replace('noatime', 'notatime')],
    ['of another version', (text: string) => text.replace('"version":1', '"version":2')],
    ['empty', () => ''],
  ])('a file that is %s is set aside, and the journal begins anew', async (_, damage) => {
    const journal = await AttachmentJournal.open(directory, silentLog);
    await journal.putMount(mountRecord('a'));
    const damaged = damage(await readFile(join(path, 'attachments.json'), 'utf8'));
    await writeFile(join(path, 'attachments.json'), damaged);
    const errors: string[] = [];
    const log = { ...silentLog, error: (_labels: object, message: string) => void errors.push(message) };
    expect((await AttachmentJournal.open(directory, log)).mounts).toEqual([]);
    expect(await readFile(join(path, 'attachments.json.damaged'), 'utf8')).toBe(damaged);
    expect(errors).toHaveLength(1);
  });
});
