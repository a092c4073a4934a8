import { describe, expect, test } from 'vitest';
import { CowRig, expectEqual } from '../../support/cow-rig.ts';
import { settle } from '../../support/settle.ts';

const chunk = 4096;

async function rigWithSnapshot(options: Partial<Parameters<typeof CowRig.open>[0]> = {}): Promise<CowRig> {
  const rig = await CowRig.open({ seed: 7, ...options });
  rig.writeRandomly(0, 64 * 1024);
  rig.take('first');
  await rig.idle();
  expect(rig.failures).toEqual([]);
  return rig;
}

describe('a full buffer', () => {
  test('gives up the oldest snapshot', async () => {
    const rig = await rigWithSnapshot({ capacityBytes: 4 * chunk });
    rig.writeRandomly(0, 2 * chunk);
    rig.take('second');
    rig.writeRandomly(0, 2 * chunk);
    await rig.idle();
    rig.writeRandomly(0, 3 * chunk);
    await rig.idle();
    expect(rig.lost.map(({ name }) => name)).toEqual(['first']);
    expect(rig.failures).toEqual([]);
    await rig.checkSnapshots(true);
  });

  test('spares a snapshot that is being read, if another will do', async () => {
    const rig = await rigWithSnapshot({ capacityBytes: 5 * chunk });
    rig.writeRandomly(0, chunk);
    rig.take('second');
    rig.writeRandomly(0, 2 * chunk);
    rig.take('third');
    rig.writeRandomly(0, 2 * chunk);
    await rig.idle();
    const reader = rig.device.openSnapshot('first');
    // Full. Only "second" reads the second content of chunk 0; "first" reads more, but it is in use.
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    expect(rig.lost.map(({ name }) => name)).toEqual(['second']);
    await reader.close();
    await rig.checkSnapshots(true);
  });

  test('spares an internal snapshot, if others will do', async () => {
    const rig = await CowRig.open({ seed: 1, capacityBytes: 4 * chunk });
    rig.writeRandomly(0, 64 * 1024);
    rig.take('safety', true);
    rig.writeRandomly(0, 2 * chunk);
    for (const name of ['a', 'b']) {
      rig.take(name);
      rig.writeRandomly(0, chunk);
    }
    await rig.idle();
    rig.writeRandomly(chunk, chunk);
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    expect(rig.lost.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(rig.device.snapshot('safety')?.state).toBe('Ready');
    await rig.checkSnapshots(true);
  });

  test('loses no snapshot in vain', async () => {
    const rig = await CowRig.open({ seed: 1, capacityBytes: 6 * chunk });
    rig.writeRandomly(0, 64 * 1024);
    rig.take('safety', true);
    for (const [index, name] of ['a', 'b', 'c'].entries()) {
      rig.take(name);
      rig.writeRandomly(index * 2 * chunk, 2 * chunk);
      await rig.idle();
    }
    // Everything in the buffer is read by "safety", so that its loss cannot be helped; "b" and "c" can live.
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    expect(rig.lost.map(({ name }) => name).sort()).toEqual(['a', 'safety']);
    await rig.checkSnapshots(true);
  });

  test('never makes a write fail, whatever is lost', async () => {
    const rig = await rigWithSnapshot({ capacityBytes: 2 * chunk });
    rig.writeRandomly(0, 64 * 1024);
    await rig.idle();
    expect(rig.failures).toEqual([]);
    expect(rig.device.snapshot('first')).toMatchObject({ state: 'Invalid', reason: expect.stringContaining('full') });
    expect(await rig.readSnapshot('first')).toBe('Corrupt');
    await rig.checkLive();
    await rig.crash('power');
    expect(rig.device.snapshot('first')?.state).toBe('Invalid');
    rig.delete('first');
    await rig.idle();
    expect(rig.device.listSnapshots()).toEqual([]);
  });

  test('lets snapshots be deleted, and uses what they free', async () => {
    const rig = await rigWithSnapshot({ capacityBytes: 16 * chunk });
    rig.writeRandomly(0, 64 * 1024);
    await rig.idle();
    expect(rig.device.usage().usedBytes).toBe(16 * chunk);
    rig.take('second');
    rig.delete('first');
    await rig.idle();
    rig.writeRandomly(0, 64 * 1024);
    await rig.idle();
    expect(rig.lost).toEqual([]);
    expect(rig.failures).toEqual([]);
    await rig.checkSnapshots();
  });

  test('treats a disk that is full before the buffer is alike', async () => {
    const rig = await rigWithSnapshot({ capacityBytes: 16 * chunk });
    rig.bufferDisk.capacityBytes = rig.bufferDisk.usedBytes + 2 * chunk;
    for (let index = 0; index < 6; index += 1) {
      rig.writeRandomly(index * chunk, chunk);
      await rig.idle();
    }
    expect(rig.failures).toEqual([]);
    expect(rig.device.snapshot('first')?.state).toBe('Invalid');
    await rig.checkLive();
    rig.take('second');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    await rig.checkSnapshots(true);
    expect(rig.device.snapshot('second')?.state).toBe('Ready');
  });
});

describe('a failing buffer disk', () => {
  test.each(['syncs', 'writes'] as const)('costs all snapshots and no write when %s fail', async (what) => {
    const rig = await rigWithSnapshot();
    rig.bufferDisk.failing[what] = true;
    rig.writeRandomly(0, 3 * chunk);
    await rig.idle();
    expect(rig.failures).toEqual([]);
    await rig.checkLive();
    expect(rig.device.snapshot('first')).toMatchObject({ state: 'Invalid' });
    expect(rig.lost.map(({ name }) => name)).toEqual(['first']);
    await expect(rig.device.takeSnapshot('second', { takenAt: 'now' })).rejects.toMatchObject({ code: 'Io' });
  });

  test.each(['power', 'kill'] as const)(
    'is remembered over a crash (%s), although the disk was never told',
    async (how) => {
      const rig = await rigWithSnapshot();
      rig.bufferDisk.failing.syncs = true;
      rig.writeRandomly(0, 3 * chunk);
      await rig.idle();
      rig.bufferDisk.failing = {};
      await rig.crash(how);
      expect(rig.device.snapshot('first')?.state).toBe('Invalid');
      // From then on the buffer's own index knows it.
      await rig.restart();
      expect(rig.device.snapshot('first')?.state).toBe('Invalid');
      expect(await rig.volumeDisk.list()).toEqual(['data']);
    },
  );

  test('makes every read of an open reader fail, not only of what is missing', async () => {
    const rig = await rigWithSnapshot();
    const reader = rig.device.openSnapshot('first');
    const target = new Uint8Array(chunk);
    await reader.read(0, target);
    rig.bufferDisk.failing.syncs = true;
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    await expect(reader.read(0, target)).rejects.toMatchObject({ code: 'Io' });
    await reader.close();
  });

  test('is noticed even while nobody writes', async () => {
    const rig = await rigWithSnapshot();
    rig.bufferDisk.failing.syncs = true;
    rig.clock.advance(1000); // seals the index
    await rig.idle();
    expect(rig.lost.map(({ name }) => name)).toEqual(['first']);
    expect(rig.device.usage().failure).toContain('failed');
  });

  test('that cannot read a preserved chunk costs the snapshots that share it', async () => {
    const rig = await rigWithSnapshot();
    rig.take('second');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    rig.take('third');
    await rig.idle();
    rig.bufferDisk.failing.reads = true;
    expect(await rig.readSnapshot('first')).toBe('Io');
    rig.bufferDisk.failing = {};
    expect(rig.device.listSnapshots().map(({ state }) => state)).toEqual(['Invalid', 'Invalid', 'Ready']);
    await rig.checkSnapshots(true);
  });
});

describe('a buffer disk that does not answer', () => {
  test('holds writes up to the deadline, then loses the snapshots that need it, and is no longer waited for', async () => {
    const rig = await rigWithSnapshot({ deadlineMs: 3000 });
    rig.writeRandomly(0, chunk); // preserved for "first"
    await rig.idle();
    rig.take('second');
    await rig.idle();
    rig.bufferDisk.hang();
    let done = false;
    const content = rig.random.bytes(chunk);
    rig.device.write(0, content)?.then(() => {
      done = true;
    });
    rig.clock.advance(2999);
    await settle();
    expect(done).toBe(false);
    rig.clock.advance(1);
    await settle();
    expect(done).toBe(true);
    // "first" has that chunk already, so only "second" is lost.
    expect(rig.lost.map(({ name }) => name)).toEqual(['second']);
    // The next write that needs a preservation does not wait at all.
    await rig.device.write(4 * chunk, content);
    expect(rig.lost.map(({ name }) => name)).toEqual(['second', 'first']);
    await expect(rig.device.takeSnapshot('third', { takenAt: 'now' })).rejects.toMatchObject({ code: 'NotReady' });
    rig.bufferDisk.resume();
    await settle(10);
    await rig.device.takeSnapshot('third', { takenAt: 'now' });
    expect(rig.device.listSnapshots().map(({ state }) => state)).toEqual(['Invalid', 'Invalid', 'Ready']);
  });

  test.each(['power', 'kill'] as const)('is remembered over a crash (%s)', async (how) => {
    const rig = await rigWithSnapshot({ deadlineMs: 3000 });
    rig.bufferDisk.hang();
    rig.writeRandomly(0, chunk);
    rig.clock.advance(3000);
    await settle(10);
    await rig.crash(how);
    expect(rig.device.snapshot('first')?.state).toBe('Invalid');
  });

  test('in the middle of deleting the newest snapshot: it does not come back with wrong content', async () => {
    const rig = await rigWithSnapshot({ deadlineMs: 3000 });
    rig.bufferDisk.hang();
    rig.delete('first');
    const content = rig.random.bytes(chunk);
    let done = false;
    rig.model.write(0, content);
    rig.device.write(0, content)?.then(() => {
      done = true;
    });
    await settle();
    expect(done).toBe(false);
    rig.clock.advance(3000);
    await settle(10);
    expect(done).toBe(true);
    await rig.crash('power');
    expect(rig.device.snapshot('first')?.state ?? 'Invalid').toBe('Invalid');
  });
});

describe('bit rot', () => {
  test('in preserved content loses the snapshots that read it, and they alone', async () => {
    const rig = await rigWithSnapshot();
    rig.take('second');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    rig.take('third');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    const slots = rig.bufferDisk.writtenPages('v.cow').filter((page) => page >= 64 * 1024 + 2 * 1024 * 1024);
    expect(slots.length).toBe(2);
    rig.bufferDisk.rot('v.cow', (slots[0] as number) + 17);
    expect(await rig.readSnapshot('first')).toBe('Corrupt');
    expect(rig.device.listSnapshots().map(({ state }) => state)).toEqual(['Invalid', 'Invalid', 'Ready']);
    await rig.checkSnapshots(true);
  });

  test('anywhere in the buffer is never served', async () => {
    for (let seed = 1; seed <= 80; seed += 1) {
      const rig = await CowRig.open({ seed, indexRegionBytes: (seed % 2 === 0 ? 48 : 256) * 1024 });
      for (let step = 0; step < 25; step += 1) {
        rig.writeRandomly(rig.random.below(120) * 512, 4096);
        if (step % 6 === 0) rig.take(`s${step}`);
        if (step % 9 === 8) rig.delete([...rig.snapshots.keys()][0] as string);
        await rig.idle();
        rig.clock.advance(1);
      }
      // Seals the last frame: damage to it can then be told from a torn write.
      rig.clock.advance(1000);
      await rig.idle();
      const pages = rig.bufferDisk.writtenPages('v.cow');
      for (let flips = 0; flips < 3; flips += 1) {
        rig.bufferDisk.rot('v.cow', rig.random.pick(pages) + rig.random.below(4096));
      }
      await rig.restart().catch((error: unknown) => expect(error).toMatchObject({ code: 'Corrupt' }));
      for (const [name, snapshot] of rig.snapshots) {
        const content = await rig.readSnapshot(name);
        if (typeof content !== 'string') expectEqual(content, snapshot.bytes, `seed ${seed}, snapshot ${name}`);
      }
      await rig.checkLive();
    }
  });

  test('in any frame of the index is never served, not even in the last one', async () => {
    const prepare = async () => {
      const rig = await rigWithSnapshot();
      for (let index = 0; index < 3; index += 1) {
        rig.writeRandomly(index * chunk, chunk);
        await rig.idle();
      }
      rig.clock.advance(1000);
      await rig.idle();
      return rig;
    };
    const indexPages = (rig: CowRig) =>
      rig.bufferDisk.writtenPages('v.cow').filter((page) => page >= 64 * 1024 && page < 64 * 1024 + 8 * 4096);
    const pages = indexPages(await prepare());
    expect(pages.length).toBe(8);
    for (const page of pages) {
      const rig = await prepare();
      rig.bufferDisk.rot('v.cow', page + 30);
      for (const disk of [rig.volumeDisk, rig.bufferDisk]) disk.kill();
      await rig.start();
      // Where the record of its barrier is lost, not even its name is known any more.
      const content = await rig.readSnapshot('first');
      const { bytes } = rig.snapshots.get('first') as { bytes: Uint8Array };
      if (typeof content === 'string') expect(['Corrupt', 'NotFound']).toContain(content);
      else expectEqual(content, bytes, `with damage at ${page}`);
    }
  });

  test('in both superblocks leaves an empty buffer that works', async () => {
    const rig = await rigWithSnapshot();
    await rig.device.close();
    for (const offset of [20, 4096 + 20]) rig.bufferDisk.rot('v.cow', offset);
    await rig.start();
    expect(rig.device.listSnapshots()).toEqual([]);
    rig.snapshots.clear();
    rig.take('again');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    await rig.restart();
    await rig.checkSnapshots();
  });

  test('in the record of losses counts as the loss of all', async () => {
    const rig = await rigWithSnapshot();
    await rig.device.close();
    await rig.volumeDisk.writeFile('v.cow-losses', new Uint8Array(100));
    await rig.start();
    expect(rig.device.snapshot('first')?.state).toBe('Invalid');
  });
});

test('a loss stays on record while the buffer fails again and again', async () => {
  const rig = await rigWithSnapshot();
  rig.take('second');
  await rig.idle();
  rig.bufferDisk.failing.writes = true;
  rig.writeRandomly(0, chunk);
  await rig.idle();
  await rig.device.close();
  await expect(rig.start()).rejects.toMatchObject({ code: 'Io' });
  rig.bufferDisk.failing.writes = false;
  await rig.start();
  expect(rig.device.listSnapshots().map(({ state }) => state)).toEqual(['Invalid', 'Invalid']);
});

test('a volume that cannot be read where it is overwritten costs the snapshots that need it', async () => {
  const rig = await rigWithSnapshot({ slowness: 1 });
  rig.volumeDisk.failing.reads = true;
  rig.writeRandomly(0, chunk);
  await rig.idle();
  expect(rig.failures).toEqual([]);
  expect(rig.device.snapshot('first')).toMatchObject({ state: 'Invalid', reason: expect.stringContaining('volume') });
});

test('writing without the buffer, once announced, costs what the buffer holds', async () => {
  const rig = await rigWithSnapshot();
  const { CowDevice } = await import('../../../agent/cow/cow-device.ts');
  await rig.device.close();
  await CowDevice.abandonBuffer(rig.volumeDisk, 'v');
  await rig.start();
  expect(rig.device.snapshot('first')).toMatchObject({ state: 'Invalid' });
  expect(await rig.volumeDisk.list()).toEqual(['data']);
});
