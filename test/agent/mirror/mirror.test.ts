import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../../agent/core/block-device.ts';
import { noArbiter } from '../../../agent/mirror/arbiter.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { MirrorRig, type MirrorRigOptions, volumeSize } from '../../support/mirror-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: MirrorRig;

async function start(options: MirrorRigOptions = {}): Promise<MirrorRig> {
  rig = await MirrorRig.start(options);
  return rig;
}

afterEach(() => rig.close());

/** Random writes of 512 bytes to 64 KiB, a few zeroes and trims among them, at most 32 at a time. */
async function scribble(count: number, from = 0, to = volumeSize): Promise<void> {
  const pending = new Set<Promise<void>>();
  for (let index = 0; index < count; index += 1) {
    const length = 512 * (1 + Math.floor(Math.random() * (index % 5 === 0 ? 128 : 8)));
    const offset = from + 512 * Math.floor((Math.random() * (to - from - length)) / 512);
    const kind = index % 16;
    const completion =
      kind === 7
        ? rig.primary.writeZeroes(offset, length, { keepAllocated: true })
        : kind === 11
          ? rig.primary.trim(offset, length)
          : rig.primary.write(offset, randomBytes(length), { fua: kind === 3 });
    if (!completion) continue;
    const tracked: Promise<void> = completion.finally(() => pending.delete(tracked));
    pending.add(tracked);
    if (pending.size >= 32) await Promise.race(pending);
  }
  await Promise.all(pending);
}

describe('the first synchronisation', () => {
  test('copies what is there, skips what reads as zero, and ends in sync', async () => {
    await start({ standbys: 0 });
    await rig.primary.write(1024 * 1024, randomBytes(300_032));
    rig.standbys.push(
      await import('../../support/mirror-rig.ts').then((m) => m.StandbyRig.start(`${rig.directory}/late`)),
    );
    await rig.primary.setMirrors([{ name: 'mirror-0', address: rig.standby.address, mode: 'synchronous' }]);
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
    expect(rig.standby.store.record.standby).toMatchObject({
      blank: false,
      consistent: true,
      clean: true,
      dataEpoch: 1,
    });
  });

  test('writes go on meanwhile, and both copies end up equal', async () => {
    await start({ standbys: 0 });
    await scribble(200);
    const { StandbyRig } = await import('../../support/mirror-rig.ts');
    rig.standbys.push(await StandbyRig.start(`${rig.directory}/late`));
    await rig.primary.setMirrors([{ name: 'mirror-0', address: rig.standby.address, mode: 'synchronous' }]);
    await scribble(1500);
    await rig.inSync();
    await scribble(300);
    expect(await rig.identical()).toBe(true);
  });
});

describe('in sync', () => {
  test('a write completes only when the standby holds it, a flush only when the standby has synced it', async () => {
    await start();
    await rig.inSync();
    await rig.primary.write(0, randomBytes(4096));
    rig.standby.stall();
    let completed = false;
    Promise.resolve(rig.primary.write(8192, randomBytes(4096))).then(
      () => {
        completed = true;
      },
      () => undefined,
    );
    await waitFor(() => rig.state() === 'Outdated' || rig.state() === 'Connecting' || completed, { timeoutMs: 5_000 });
    expect(completed).toBe(false);
  });

  test('overlapping writes land in the same order on both copies', async () => {
    await start();
    await rig.inSync();
    await scribble(2000, 0, 64 * 1024);
    expect(await rig.identical()).toBe(true);
  });

  test('two standbys follow', async () => {
    await start({ standbys: 2 });
    await rig.inSync();
    await scribble(500);
    expect(await rig.identical()).toBe(true);
  });
});

describe('losing the standby', () => {
  test('without an arbiter, writes wait until it is back, and nothing is lost', async () => {
    await start();
    await rig.inSync();
    await scribble(50);
    rig.standby.cut();
    await waitFor(() => rig.state() === 'Connecting', { timeoutMs: 5_000 });
    let completed = false;
    const waiting = Promise.resolve(rig.primary.write(4096, randomBytes(4096))).then(() => {
      completed = true;
    });
    expect(rig.primary.suspended).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(completed).toBe(false);
    rig.standby.reachable = true;
    await waiting;
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
  });

  test('with onLoss continue it goes on alone, and copies only what the standby missed', async () => {
    await start({ arbiter: noArbiter('continue') });
    await rig.inSync();
    await scribble(100);
    await rig.primary.flush();
    rig.standby.cut();
    await waitFor(() => rig.state() === 'Connecting' || rig.state() === 'Outdated', { timeoutMs: 5_000 });
    await rig.primary.write(2 * 1024 * 1024, randomBytes(4096));
    await waitFor(() => rig.state() === 'Outdated', { timeoutMs: 5_000 });
    await scribble(20, 4 * 1024 * 1024, 5 * 1024 * 1024);
    rig.standby.reachable = true;
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
  });

  test('a standby that restarts uncleanly is brought in sync again', async () => {
    await start();
    await rig.inSync();
    const busy = scribble(1500);
    await waitFor(() => rig.primary.mirrors[0]?.lagBytes !== 0, { timeoutMs: 5_000, intervalMs: 0 });
    rig.standby.restart();
    await busy;
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
  });

  test('a standby whose disk was replaced is copied in full', async () => {
    await start();
    await rig.inSync();
    await scribble(100);
    rig.standby.cut();
    rig.standby.replaceDevice(new MemoryDevice(volumeSize));
    await rig.standby.store.update((record) => ({
      ...record,
      standby: { blank: true, consistent: true, clean: false, dataEpoch: 0 },
    }));
    rig.standby.reachable = true;
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
  });
});

describe('a primary that restarts', () => {
  test('does no I/O before a standby that was in sync has accepted a resync', async () => {
    await start();
    await rig.inSync();
    await scribble(100);
    rig.standby.cut();
    const { local } = rig;
    await rig.primary.close();
    // As after a crash: a local write that the standby never saw.
    rig.local = new MemoryDevice(volumeSize);
    rig.local.write(0, local.bytes);
    rig.local.write(4096, Buffer.alloc(4096, 7));
    await rig.startPrimary();
    let read = false;
    const reading = Promise.resolve(rig.primary.read(4096, Buffer.alloc(4096))).then(() => {
      read = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(read).toBe(false);
    rig.standby.reachable = true;
    await reading;
    await rig.inSync();
    expect(await rig.identical()).toBe(true);
  });
});

describe('epochs', () => {
  test('a standby that is prepared takes nothing more from the old epoch, which is fenced when the newer one begins', async () => {
    await start();
    await rig.inSync();
    await rig.standby.copy.prepare(2);
    await waitFor(() => rig.primary.mirrors[0]?.lastError?.includes('prepared for epoch 2'), { timeoutMs: 5_000 });
    expect(rig.primary.suspended).toBe(true);
    expect(rig.fenced).toBeUndefined();
    expect(rig.standby.store.record.standby).toMatchObject({ clean: true, consistent: true, preparedEpoch: 2 });

    await rig.standby.store.update((record) => ({ ...record, role: 'primary', epoch: 2 }));
    await waitFor(() => rig.fenced !== undefined, { timeoutMs: 5_000 });
    await expect(async () => rig.primary.write(0, randomBytes(512))).rejects.toThrow(/epoch/);
  });
});

describe('the local disk', () => {
  /** From now on a write at this offset fails there, and nowhere else. */
  function failWritesAt(failing: number, error: UnderstudyError): void {
    const local: BlockDevice = rig.local;
    const write = local.write.bind(local);
    local.write = (offset, data, options) =>
      offset === failing ? Promise.reject(error) : write(offset, data, options);
  }

  function holds(device: MemoryDevice, content: Buffer): boolean {
    return Buffer.compare(device.bytes.subarray(8192, 8192 + content.length), content) === 0;
  }

  test('has no room for a write: it fails, though the standby has got it, and both copies end up as the primary is', async () => {
    await start();
    await rig.inSync();
    const before = randomBytes(4096);
    const after = randomBytes(4096);
    await rig.primary.write(8192, before);
    failWritesAt(8192, new UnderstudyError('NoSpace', 'the disk is full'));
    await expect(rig.primary.write(8192, after)).rejects.toMatchObject({ code: 'NoSpace' });
    await waitFor(() => holds(rig.standby.device, before), { timeoutMs: 5_000 });
    await rig.primary.write(0, after);
    expect(await rig.identical()).toBe(true);
    expect(holds(rig.local, before)).toBe(true);
  });

  test('fails: nothing is written any more, and the standby, whose copy is what counts, is not touched', async () => {
    await start();
    await rig.inSync();
    await scribble(200);
    await rig.primary.flush();
    failWritesAt(8192, new UnderstudyError('Io', 'the disk is broken'));
    await expect(rig.primary.write(8192, randomBytes(4096))).rejects.toMatchObject({ code: 'Io' });
    await expect(Promise.resolve().then(() => rig.primary.write(0, randomBytes(4096)))).rejects.toMatchObject({
      code: 'Io',
    });
    await waitFor(() => !rig.standby.linked, { timeoutMs: 5_000, what: 'the end of the link' });
    expect(rig.standby.store.record.standby).toMatchObject({ clean: true, consistent: true });
    expect(rig.standby.links).toBe(1);
  });

  test('belongs to a primary that is fenced: its links end for good', async () => {
    await start();
    await rig.inSync();
    await scribble(200);
    await rig.primary.flush();
    rig.primary.fence('a newer epoch exists');
    await expect(Promise.resolve().then(() => rig.primary.write(0, randomBytes(4096)))).rejects.toMatchObject({
      code: 'Fenced',
    });
    await waitFor(() => !rig.standby.linked, { timeoutMs: 5_000, what: 'the end of the link' });
    expect(Buffer.compare(rig.local.bytes, rig.standby.device.bytes)).toBe(0);
    expect(rig.standby.store.record.standby).toMatchObject({ clean: true, consistent: true });
    expect(rig.standby.links).toBe(1);
  });
});
