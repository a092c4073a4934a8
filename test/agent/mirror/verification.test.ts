import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test } from 'vitest';
import type { VerificationView } from '../../../agent/api/contract/verification.ts';
import { noArbiter } from '../../../agent/mirror/arbiter.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { fastTiming, MirrorRig, volumeSize } from '../../support/mirror-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Reads at once and says so later, as a disk does. */
class LateReads extends MemoryDevice {
  override read(offset: number, target: Uint8Array): undefined {
    super.read(offset, target);
    const late: Promise<void> = new Promise((resolve) => setTimeout(resolve, 2));
    return late as unknown as undefined;
  }
}

let rig: MirrorRig;
afterEach(() => rig.close());

async function inSync(): Promise<void> {
  // A standby that is only slow is not to count as lost.
  const timing = { ...fastTiming, acknowledgementTimeoutMs: 4_000 };
  rig = await MirrorRig.start({ arbiter: noArbiter('continue'), timing });
  await rig.primary.write(0, randomBytes(volumeSize / 2));
  await rig.inSync();
}

function verification(): VerificationView | undefined {
  return rig.primary.mirrors[0]?.verification;
}

async function ended(): Promise<VerificationView> {
  await waitFor(() => verification()?.state !== 'Running', { timeoutMs: 20_000 });
  const view = verification();
  if (!view) throw new Error('no verification');
  return view;
}

/** Changes one byte of the standby's disk, and of nothing else. */
function flip(offset: number): void {
  rig.standby.device.bytes[offset] = (rig.standby.device.bytes[offset] ?? 0) ^ 1;
}

/** Writes until told to stop, 8 at a time. */
function scribble(from: number, to: number): () => Promise<void> {
  let stopped = false;
  const writer = async () => {
    while (!stopped) {
      const length = 512 * (1 + Math.floor(Math.random() * 64));
      const offset = from + 512 * Math.floor((Math.random() * (to - from - length)) / 512);
      await rig.primary.write(offset, randomBytes(length));
      await new Promise(setImmediate);
    }
  };
  const writers = Array.from({ length: 8 }, writer);
  return async () => {
    stopped = true;
    await Promise.all(writers);
  };
}

describe('a verification', () => {
  test('of equal copies finds nothing', async () => {
    await inSync();
    rig.primary.verify({ repair: false });
    expect(await ended()).toMatchObject({ state: 'Done', verifiedBytes: volumeSize, differingBytes: 0, differing: [] });
  });

  test('finds the very blocks that differ, and leaves them as they are', async () => {
    await inSync();
    flip(5);
    flip(1024 * 1024 + 4096 + 7);
    flip(1024 * 1024 + 8192);
    flip(volumeSize - 1);
    const before = Buffer.from(rig.standby.device.bytes);
    rig.primary.verify({ repair: false });
    expect(await ended()).toMatchObject({
      state: 'Done',
      differingBytes: 4 * 4096,
      differing: [
        { offset: 0, length: 4096 },
        { offset: 1024 * 1024 + 4096, length: 8192 },
        { offset: volumeSize - 4096, length: 4096 },
      ],
      truncated: false,
    });
    expect(before.equals(rig.standby.device.bytes)).toBe(true);
    expect(rig.state()).toBe('InSync');
  });

  test('under heavy writes finds what differs, and nothing else', async () => {
    await inSync();
    const stop = scribble(0, volumeSize - 65_536);
    for (let round = 0; round < 5; round += 1) {
      rig.primary.verify({ repair: false });
      expect(await ended()).toMatchObject({ state: 'Done', differing: [] });
    }
    flip(volumeSize - 10);
    rig.primary.verify({ repair: false });
    expect((await ended()).differing).toEqual([{ offset: volumeSize - 4096, length: 4096 }]);
    await stop();
  });

  test('is not misled by writes that overtake its reads', async () => {
    await inSync();
    await rig.primary.close();
    const { bytes } = rig.local;
    rig.local = new LateReads(volumeSize);
    rig.local.bytes.set(bytes);
    await rig.startPrimary();
    await rig.inSync();
    const stop = scribble(0, 1024 * 1024);
    rig.primary.verify({ repair: false });
    expect(await ended()).toMatchObject({ state: 'Done', differing: [] });
    await stop();
  });

  test('lists a bounded number of ranges and counts all', async () => {
    await inSync();
    for (let block = 0; block < 200; block += 2) flip(block * 4096);
    rig.primary.verify({ repair: false });
    const view = await ended();
    expect(view.differing).toHaveLength(64);
    expect(view).toMatchObject({ truncated: true, differingBytes: 100 * 4096 });
  });

  test('with repair has what differs copied again', async () => {
    await inSync();
    for (let block = 0; block < 200; block += 2) flip(block * 4096);
    rig.primary.verify({ repair: true });
    expect(await ended()).toMatchObject({ state: 'Done', differingBytes: 100 * 4096 });
    await waitFor(() => rig.state() !== 'InSync', { timeoutMs: 5_000, intervalMs: 1 });
    expect(await rig.identical()).toBe(true);
    rig.primary.verify({ repair: false });
    expect(await ended()).toMatchObject({ state: 'Done', differingBytes: 0 });
  });

  test('is refused while the mirror is not in sync, and while one is under way', async () => {
    await inSync();
    rig.primary.verify({ repair: false, bytesPerSecond: 65_536 });
    expect(() => rig.primary.verify({ repair: false })).toThrow(/being verified/);
    rig.primary.stopVerification(undefined);
    expect(await ended()).toMatchObject({ state: 'Stopped', reason: expect.stringMatching(/on request/) });
    rig.standby.cut();
    await waitFor(() => rig.state() !== 'InSync', { timeoutMs: 5_000 });
    expect(() => rig.primary.verify({ repair: false })).toThrow(/not in sync/);
    expect(() => rig.primary.verify({ mirror: 'other', repair: false })).toThrow(/no mirror other/);
  });

  test('ends with the mirror, and makes no differences of what the standby was not told', async () => {
    await inSync();
    rig.primary.verify({ repair: true, bytesPerSecond: 1024 * 1024 });
    await waitFor(() => (verification()?.verifiedBytes ?? 0) > 0, { timeoutMs: 5_000 });
    rig.standby.cut();
    await waitFor(() => rig.state() === 'Outdated', { timeoutMs: 20_000 });
    await rig.primary.write(0, randomBytes(volumeSize));
    const view = await ended();
    expect(view).toMatchObject({ state: 'Stopped', differing: [], reason: expect.stringMatching(/sync|link/) });
    rig.standby.reachable = true;
    expect(await rig.identical()).toBe(true);
  });
});

describe('a resync', () => {
  test('keeps to its limit, which can be lifted while it runs', async () => {
    await inSync();
    rig.standby.cut();
    await waitFor(() => rig.state() === 'Outdated', { timeoutMs: 20_000 });
    await rig.primary.write(0, randomBytes(volumeSize));
    const mirror = { name: 'mirror-0', address: rig.standby.address, mode: 'synchronous' as const };
    await rig.primary.setMirrors([{ ...mirror, resyncBytesPerSecond: 4096 }]);
    rig.standby.reachable = true;
    await waitFor(() => (rig.primary.mirrors[0]?.resync?.copiedBytes ?? 0) > 0, { timeoutMs: 5_000 });
    expect(rig.primary.mirrors[0]?.resyncBytesPerSecond).toBe(4096);
    // The next piece is minutes away, so whatever happens meanwhile, it is not there yet.
    await rig.primary.write(0, randomBytes(4096));
    expect(rig.primary.mirrors[0]?.resync?.copiedBytes).toBe(1024 * 1024);
    await rig.primary.setMirrors([mirror]);
    expect(await rig.identical()).toBe(true);
  });
});
