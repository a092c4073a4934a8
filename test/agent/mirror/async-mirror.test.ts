import { randomBytes, randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../support/memory-device.ts';
import { MirrorRig, type MirrorRigOptions, volumeSize } from '../../support/mirror-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: MirrorRig;

async function start(options: MirrorRigOptions = {}): Promise<MirrorRig> {
  rig = await MirrorRig.start({ journalBytes: 4 * 1024 * 1024, queueBytes: 256 * 1024, ...options });
  await rig.inSync();
  return rig;
}

afterEach(() => rig.close());

async function scribble(count: number, flushEach = 37): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const length = 512 * (1 + Math.floor(Math.random() * 16));
    const offset = 512 * Math.floor((Math.random() * (volumeSize - length)) / 512);
    if (index % 16 === 7) await rig.primary.writeZeroes(offset, length, { keepAllocated: true });
    else if (index % 16 === 11) await rig.primary.trim(offset, length);
    else await rig.primary.write(offset, randomBytes(length), { fua: index % 16 === 3 });
    if (index % flushEach === 0) await rig.primary.flush();
  }
}

/** Nothing is on its way any more, and the standby has what the primary has. */
async function caughtUp(): Promise<void> {
  await waitFor(() => rig.state() === 'InSync' && rig.primary.mirrors[0]?.lagBytes === 0, { timeoutMs: 20_000 });
  await rig.standby.copy.device.flush();
  await waitFor(() => Buffer.compare(rig.local.bytes, rig.standby.device.bytes) === 0, { timeoutMs: 10_000 });
}

/** A crash leaves no seal: what the standby lacks is found by the write-intent bitmap then. */
async function restartPrimary(how?: 'as after a crash'): Promise<void> {
  await rig.primary.close();
  if (how) await rm(`${rig.directory}/primary/journal-mirror-0.seal`, { force: true });
  const { bytes } = rig.local;
  rig.local = new MemoryDevice(volumeSize);
  rig.local.write(0, bytes);
  await rig.startPrimary();
}

const resyncs = () => rig.messages.filter((message) => message === 'a resync begins').length;

describe('an asynchronous mirror', () => {
  test('follows, and its standby is consistent but never clean', async () => {
    await start();
    await scribble(500);
    await caughtUp();
    expect(rig.standby.store.record.standby).toMatchObject({ consistent: true, clean: false });
    expect(rig.primary.suspended).toBe(false);
  });

  test('compresses what it sends', async () => {
    await start({ compression: 'zstd' });
    await scribble(200);
    for (let at = 0; at < 100; at += 1) await rig.primary.write(at * 4096, Buffer.alloc(4096, at));
    await caughtUp();
  });

  test('goes on where it was when the link was lost, through the journal, without a resync', async () => {
    await start();
    await scribble(100);
    await caughtUp();
    const before = resyncs();
    rig.standby.cut();
    await waitFor(() => rig.state() === 'Connecting', { timeoutMs: 5_000 });
    await scribble(400);
    const view = rig.primary.mirrors[0];
    expect(view?.lagBytes).toBeGreaterThan(256 * 1024);
    expect(view?.journal?.usedBytes).toBeGreaterThan(0);
    expect(view?.lagSeconds).toBeGreaterThan(0);
    rig.standby.reachable = true;
    await caughtUp();
    expect(resyncs()).toBe(before);
    await waitFor(() => rig.primary.mirrors[0]?.journal?.usedBytes === 0, { timeoutMs: 5_000 });
  });

  test('falls back to a resync when the journal overflows; the writes do not notice, and a barrier fails', async () => {
    await start({ journalBytes: 1024 * 1024 });
    rig.standby.stall();
    const barrier = rig.primary.barrier('mirror-0', {
      snapshot: 's',
      attempt: randomUUID(),
      takenAt: new Date(0).toISOString(),
      consistency: 'crash',
    });
    const failed = expect(barrier).rejects.toThrow(/resync/);
    await scribble(1500);
    await failed;
    await caughtUp();
    expect(rig.messages).toContain('the stream to the standby is given up');
  });

  test('without a journal the queue is all there is', async () => {
    await start({ journalBytes: 0 });
    rig.standby.cut();
    await scribble(300);
    rig.standby.reachable = true;
    await caughtUp();
    expect(rig.messages).toContain('the stream to the standby is given up');
  });

  test('a standby that restarted uncleanly is resynchronised', async () => {
    await start();
    await scribble(300);
    rig.standby.restart();
    await scribble(50);
    await caughtUp();
    expect(resyncs()).toBe(2);
  });

  test('goes on with its journal after an orderly restart of the primary', async () => {
    await start();
    await scribble(100);
    await caughtUp();
    const before = resyncs();
    rig.standby.cut();
    await scribble(500);
    await restartPrimary();
    await scribble(50);
    rig.standby.reachable = true;
    await caughtUp();
    expect(resyncs()).toBe(before);
    expect(rig.messages).toContain('the mirror goes on with its journal');
  });

  test('a write-intent bit stays until the standby has synced', async () => {
    await start();
    rig.standby.cut();
    await rig.primary.write(0, randomBytes(4096));
    await rig.primary.flush();
    const before = resyncs();
    await restartPrimary('as after a crash');
    rig.standby.reachable = true;
    await caughtUp();
    expect(resyncs()).toBe(before + 1);
  });
});

describe('a standby of an asynchronous mirror that knows a newer epoch', () => {
  test.each([['standby'], ['primary']] as const)(
    'as a %s: its primary is fenced, and acknowledges nothing more',
    async (role) => {
      await start();
      await scribble(100);
      await caughtUp();
      await rig.standby.store.update((record) => ({ ...record, role, epoch: 2 }));
      rig.standby.restart();
      await waitFor(() => rig.fenced !== undefined, { timeoutMs: 5_000 });
      expect(rig.fenced).toContain('a newer epoch exists');
      expect(rig.state()).toBe('Fenced');
      await expect(async () => rig.primary.write(0, randomBytes(512))).rejects.toMatchObject({ code: 'Fenced' });
      await expect(async () => rig.primary.flush()).rejects.toMatchObject({ code: 'Fenced' });
    },
  );

  test('does not by being prepared: whether that epoch begins is still open, and writes do not wait for it', async () => {
    await start();
    await scribble(100);
    await caughtUp();
    await rig.standby.copy.prepare(2);
    await waitFor(() => rig.primary.mirrors[0]?.lastError?.includes('prepared for epoch 2'), { timeoutMs: 5_000 });
    await scribble(50);
    expect(rig.fenced).toBeUndefined();
  });
});
