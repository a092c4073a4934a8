import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AttachmentJournal } from '../../../agent/attach/attachment-journal.ts';
import { type Attached, Attachments } from '../../../agent/attach/attachments.ts';
import type { AttachDriver, PresentAttachment } from '../../../agent/attach/driver.ts';
import type { AttachableExport, ExportSource, VolumeBinding } from '../../../agent/attach/export-source.ts';
import { DiskDirectory } from '../../../agent/store/disk-directory.ts';
import { type ErrorCode, UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';

/** Devices that are numbers in memory, and whose connections die when a test says so. */
class MemoryDriver implements AttachDriver {
  readonly kind = 'nbd';
  readonly survivesRestart = true;
  readonly devices = new Map<string, { device: string; alive: boolean }>();
  readonly reconnected: AttachableExport[] = [];
  #count = 0;

  async unusable(): Promise<undefined> {}

  async attach(_: AttachableExport, { name }: { name: string }): Promise<{ device: string }> {
    const device = `/dev/nbd${this.#count++}`;
    this.devices.set(name, { device, alive: true });
    return { device };
  }

  async reconnect(target: AttachableExport, { name }: { name: string }): Promise<void> {
    const found = this.devices.get(name);
    if (!found) throw new UnderstudyError('NotFound', 'no such device');
    this.reconnected.push(target);
    found.alive = true;
  }

  async detach(name: string): Promise<void> {
    this.devices.delete(name);
  }

  async cut(): Promise<void> {}

  async abandon(name: string): Promise<{ remaining: string[] }> {
    this.devices.delete(name);
    return { remaining: [] };
  }

  async list(): Promise<PresentAttachment[]> {
    return [...this.devices].map(([name, { device, alive }]) => ({ name, devices: [device], alive }));
  }

  killConnections(): void {
    for (const device of this.devices.values()) device.alive = false;
  }
}

class OneVolume implements ExportSource {
  binding: VolumeBinding | undefined = { uid: 'uid-1', epoch: 1 };
  failure: ErrorCode | undefined;

  async liveExport(volume: string): Promise<AttachableExport> {
    return this.#exported(volume, this.binding);
  }

  async liveBinding(): Promise<VolumeBinding | undefined> {
    return this.binding;
  }

  async isBlank(): Promise<boolean> {
    return true;
  }

  async openScratch(volume: string, snapshot: string): Promise<AttachableExport> {
    return this.#exported(`${volume}@${snapshot}`, undefined);
  }

  async releaseScratch(): Promise<void> {}

  #exported(exportName: string, binding: VolumeBinding | undefined): AttachableExport {
    if (this.failure) throw new UnderstudyError(this.failure, 'not now');
    const target = { socket: '/s', exportName, sizeBytes: 4096, blockSize: 512, readOnly: false };
    return binding ? { ...target, binding } : target;
  }
}

let path: string;
let source: OneVolume;
let driver: MemoryDriver;
let attachments: Attachments;
let live: Attached;

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'understudy-attachments-'));
  source = new OneVolume();
  driver = new MemoryDriver();
  const journal = await AttachmentJournal.open(await DiskDirectory.open(path), silentLog);
  attachments = new Attachments({ source, driver, drivers: [driver], journal, log: silentLog });
  live = await attachments.attachLive('vol', { readOnly: false });
});

afterEach(() => rm(path, { recursive: true, force: true }));

describe('a device whose connection has died', () => {
  beforeEach(() => driver.killConnections());

  test('is connected again, to the volume and epoch that it was made for', async () => {
    expect(live).toMatchObject({ uid: 'uid-1', epoch: 1 });
    expect(await attachments.condition(live)).toBe('alive');
    expect(driver.reconnected).toEqual([expect.objectContaining({ exportName: 'vol', binding: source.binding })]);
    expect(await attachments.attachLive('vol', { readOnly: false })).toEqual(live);
  });

  test.each([
    ['fenced', undefined],
    ['in a later epoch', { uid: 'uid-1', epoch: 2 }],
    ['another volume of that name', { uid: 'uid-2', epoch: 1 }],
    ['a volume without uid', { uid: undefined, epoch: 1 }],
  ])('is never connected to what is %s', async (_, binding) => {
    source.binding = binding;
    expect(await attachments.isBound(live)).toBe(false);
    expect(await attachments.condition(live)).toBe('lost');
    expect(driver.reconnected).toEqual([]);
  });

  test.each(['NotReady', 'Unavailable', 'Timeout'] as const)(
    'waits while the volume is %s, and is kept',
    async (code) => {
      source.failure = code;
      expect(await attachments.condition(live)).toBe('waiting');
      await expect(attachments.attachLive('vol', { readOnly: false })).rejects.toMatchObject({ code: 'NotReady' });
      expect(driver.devices.size).toBe(1);
      source.failure = undefined;
      expect(await attachments.condition(live)).toBe('alive');
    },
  );

  test.each(['NotFound', 'Corrupt', 'Conflict'] as const)('is lost when the answer is %s', async (code) => {
    source.failure = code;
    expect(await attachments.condition(live)).toBe('lost');
  });

  test('is lost when it is gone itself', async () => {
    driver.devices.clear();
    expect(await attachments.condition(live)).toBe('lost');
    const next = await attachments.attachLive('vol', { readOnly: false });
    expect(next.name).not.toBe(live.name);
  });
});

test("a snapshot's device is connected to its scratch view again, whatever the epoch", async () => {
  const scratch = await attachments.attachScratch('vol', 's1', 'm');
  driver.killConnections();
  source.binding = undefined;
  expect(await attachments.condition(scratch)).toBe('alive');
  expect(driver.reconnected.map(({ exportName }) => exportName)).toEqual(['vol@s1']);
});

test('a read-only device stays read-only', async () => {
  await attachments.detach(live);
  const readOnly = await attachments.attachLive('vol', { readOnly: true });
  driver.killConnections();
  await attachments.condition(readOnly);
  expect(driver.reconnected).toEqual([expect.objectContaining({ readOnly: true })]);
});
