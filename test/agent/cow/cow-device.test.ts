import { describe, expect, test } from 'vitest';
import { CowDevice } from '../../../agent/cow/cow-device.ts';
import { FileDevice } from '../../../agent/store/file-device.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { CowRig, expectEqual } from '../../support/cow-rig.ts';
import { HeldDevice } from '../../support/held-device.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { Random } from '../../support/random.ts';
import { settle } from '../../support/settle.ts';
import { SimulatedDisk } from '../../support/simulated-storage.ts';

const chunk = 4096;
const takenAt = '2020-01-01T00:00:00Z';

async function openOver(base: MemoryDevice | HeldDevice, disk = new SimulatedDisk({ random: new Random(3) })) {
  const device = await CowDevice.open({
    base,
    directory: disk,
    name: 'v',
    capacityBytes: 64 * chunk,
    maxSnapshots: 4,
    chunkSizeBytes: chunk,
    clock: systemClock,
    log: silentLog,
  });
  return { device, disk };
}

describe('writing', () => {
  test('goes straight through where no snapshot needs anything', async () => {
    const rig = await CowRig.open({ seed: 1 });
    expect(rig.device.write(0, rig.random.bytes(chunk))).toBeUndefined();
    rig.take('s');
    await rig.idle();
    const preserving = rig.device.write(0, rig.random.bytes(512));
    expect(preserving).toBeInstanceOf(Promise);
    await preserving;
    expect(rig.device.write(512, rig.random.bytes(512))).toBeUndefined();
    expect(rig.device.write(0, rig.random.bytes(chunk))).toBeUndefined();
  });

  test('reaches the volume only when the preserved content is on stable storage, at every moment', async () => {
    const base = new HeldDevice(new MemoryDevice(16 * chunk));
    const { device, disk } = await openOver(base);
    await device.takeSnapshot('s', { takenAt });
    base.calls.length = 0;
    disk.hang();
    let done = false;
    device.write(0, new Uint8Array(chunk).fill(1))?.then(() => {
      done = true;
    });
    await settle(10);
    expect(base.calls).toEqual([`read 0+${chunk}`]);
    expect(done).toBe(false);
    disk.resume();
    await settle(10);
    expect(base.calls).toEqual([`read 0+${chunk}`, `write 0+${chunk}`]);
    expect(done).toBe(true);
  });

  test('shares one sync among all that wait at a time', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, 64 * 1024);
    rig.take('s');
    await rig.idle();
    const before = rig.bufferDisk.syncs;
    for (let index = 0; index < 16; index += 1) rig.writeRandomly(index * chunk, chunk);
    await rig.idle();
    expect(rig.bufferDisk.syncs - before).toBe(1);
  });

  test('of a whole chunk preserves as well; one of zeroes over zeroes needs nothing', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, chunk);
    rig.take('s');
    await rig.idle();
    rig.writeRandomly(0, chunk);
    rig.zero(8 * chunk, 8 * chunk, 'trim');
    await rig.idle();
    expect(rig.device.usage().usedBytes).toBe(chunk);
    expect(rig.device.changedExtents('s', 0, 16 * chunk)).toEqual([
      { length: chunk, dirty: true },
      { length: 15 * chunk, dirty: false },
    ]);
    // A chunk of zeroes that is overwritten is remembered, but takes no slot.
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    expect(rig.device.usage().usedBytes).toBe(chunk);
    await rig.checkSnapshots();
  });

  test('that trims behind a write under way preserves what that one writes', async () => {
    const rig = await CowRig.open({ seed: 1, slowness: 1 });
    rig.writeRandomly(0, chunk);
    rig.take('s');
    rig.zero(0, chunk, 'trim');
    await rig.idle();
    await rig.checkSnapshots();
    await rig.checkLive();
  });

  test('passes FUA and the keeping of space on', async () => {
    const base = new HeldDevice(new MemoryDevice(16 * chunk));
    const { device } = await openOver(base);
    await device.takeSnapshot('s', { takenAt });
    await device.write(0, new Uint8Array(512), { fua: true });
    expect(base.calls).toContain('write 0+512 fua');
  });

  test('is trimmed in pieces, however long the range', async () => {
    const base = new HeldDevice(new MemoryDevice(2048 * chunk));
    const { device } = await openOver(base);
    base.holds.add('trim');
    for (let index = 0; index < 2048; index += 100) await device.write(index * chunk, new Uint8Array(512).fill(1));
    await device.takeSnapshot('s', { takenAt });
    let done = false;
    device.trim(0, 2048 * chunk)?.then(() => {
      done = true;
    });
    for (let pieces = 0; pieces < 8; pieces += 1) {
      while (base.held.length === 0) await settle();
      expect(done).toBe(false);
      base.held.shift()?.complete();
    }
    await settle();
    expect(done).toBe(true);
  });
});

describe('the order of overlapping operations', () => {
  test('is that of the calls, while an earlier one waits', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, 64 * 1024);
    rig.take('s');
    await rig.idle();
    rig.writeRandomly(0, 2048);
    rig.checkRead(0, chunk);
    rig.writeRandomly(1024, 2048);
    rig.checkRead(0, chunk);
    rig.zero(512, 1024, 'writeZeroes');
    rig.checkRead(0, chunk);
    rig.checkRead(8 * chunk, chunk);
    await rig.idle();
    expect(rig.failures).toEqual([]);
    await rig.checkLive();
    await rig.checkSnapshots();
  });

  test('lets others pass', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, chunk);
    rig.take('s');
    rig.writeRandomly(0, chunk);
    await rig.idle();
    rig.bufferDisk.hang();
    rig.writeRandomly(4 * chunk, chunk);
    await settle();
    expect(rig.device.read(0, new Uint8Array(chunk))).toBeUndefined();
    expect(rig.device.write(0, rig.random.bytes(chunk))).toBeUndefined();
    rig.bufferDisk.resume();
    await rig.idle();
  });
});

describe('a snapshot', () => {
  test('holds exactly what was called before it, and lets writes go on before it is ready', async () => {
    const base = new HeldDevice(new MemoryDevice(16 * chunk));
    const { device } = await openOver(base);
    base.holds.add('flush');
    device.write(0, new Uint8Array(512).fill(1));
    let ready = false;
    const taking = device.takeSnapshot('s', { takenAt, attempt: 'a1', consistency: 'filesystem' }).then((info) => {
      ready = true;
      return info;
    });
    await device.write(0, new Uint8Array(512).fill(2));
    const live = new Uint8Array(512);
    await device.read(0, live);
    expect(live[0]).toBe(2);
    expect(ready).toBe(false);
    expect(device.snapshot('s')?.state).toBe('Pending');
    expect(() => device.openSnapshot('s')).toThrow(expect.objectContaining({ code: 'NotReady' }));
    await expect(device.deleteSnapshot('s')).rejects.toMatchObject({ code: 'NotReady' });
    while (base.held.length === 0) await settle();
    base.held.shift()?.complete();
    expect(await taking).toMatchObject({
      name: 's',
      takenAt,
      attempt: 'a1',
      consistency: 'filesystem',
      internal: false,
      state: 'Ready',
      sizeBytes: 16 * chunk,
    });
    const reader = device.openSnapshot('s');
    await reader.read(0, live);
    expect(live[0]).toBe(1);
    await reader.close();
  });

  test('waits for writes under way in the volume before it is ready', async () => {
    const base = new HeldDevice(new MemoryDevice(16 * chunk));
    const { device } = await openOver(base);
    base.holds.add('write');
    device.write(0, new Uint8Array(512).fill(1));
    const taking = device.takeSnapshot('s', { takenAt });
    await settle(5);
    expect(base.calls).not.toContain('flush');
    base.held.shift()?.complete();
    await taking;
    expect(base.calls).toContain('flush');
  });

  test('is not there when the volume could not be synced', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.volumeDisk.failing.syncs = true;
    await expect(rig.device.takeSnapshot('s', { takenAt })).rejects.toMatchObject({ code: 'Io' });
    expect(rig.device.listSnapshots()).toEqual([]);
  });

  test('is refused under a name that is there, and beyond the number that may be kept', async () => {
    const { device } = await openOver(new MemoryDevice(16 * chunk));
    await device.takeSnapshot('s0', { takenAt });
    await expect(device.takeSnapshot('s0', { takenAt })).rejects.toMatchObject({ code: 'AlreadyExists' });
    await device.takeSnapshot('safety', { takenAt, internal: true });
    for (const name of ['s1', 's2', 's3']) await device.takeSnapshot(name, { takenAt });
    await expect(device.takeSnapshot('s4', { takenAt })).rejects.toMatchObject({
      code: 'NoSpace',
      message: expect.stringMatching(/there are 4 snapshots.*delete one/),
    });
    expect(device.listSnapshots().map(({ name }) => name)).toEqual(['s0', 's1', 's2', 's3']);
    expect(device.listSnapshots({ internal: true }).map(({ name }) => name)).toContain('safety');
    await device.deleteSnapshot('s1');
    await device.takeSnapshot('s4', { takenAt });
    await device.close();
    await expect(device.takeSnapshot('s5', { takenAt })).rejects.toMatchObject({ code: 'Closed' });
  });

  test('is read-only, and is not deleted while it is read', async () => {
    const { device } = await openOver(new MemoryDevice(16 * chunk));
    await device.takeSnapshot('s', { takenAt });
    const reader = device.openSnapshot('s');
    for (const refused of [reader.write(0, new Uint8Array(512)), reader.trim(0, 512), reader.writeZeroes(0, 512)]) {
      await expect(refused).rejects.toMatchObject({ code: 'ReadOnly' });
    }
    expect(device.snapshot('s')?.readers).toBe(1);
    await expect(device.deleteSnapshot('s')).rejects.toMatchObject({ code: 'InUse' });
    await reader.close();
    await device.deleteSnapshot('s');
    await expect(device.deleteSnapshot('s')).rejects.toMatchObject({ code: 'NotFound' });
  });

  test('says what it reads from the buffer, and what deleting it would free', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, 64 * 1024);
    rig.take('a');
    rig.writeRandomly(0, 2 * chunk);
    rig.take('b');
    rig.writeRandomly(chunk, 2 * chunk);
    await rig.idle();
    // a: chunks 0 and 1 of its own, chunk 2 shared with b. b: chunk 1 of its own, chunk 2 shared.
    expect(rig.device.snapshot('a')).toMatchObject({ bufferBytes: 3 * chunk, exclusiveBytes: 2 * chunk });
    expect(rig.device.snapshot('b')).toMatchObject({ bufferBytes: 2 * chunk, exclusiveBytes: chunk });
    expect(rig.device.usage()).toMatchObject({ usedBytes: 4 * chunk });
    rig.delete('b');
    await rig.idle();
    rig.clock.advance(10);
    await settle();
    expect(rig.device.usage().usedBytes).toBe(3 * chunk);
    expect(rig.device.snapshot('a')).toMatchObject({ bufferBytes: 3 * chunk, exclusiveBytes: 3 * chunk });
  });

  test('keeps its size when the volume grows; what came later counts as changed', async () => {
    const rig = await CowRig.open({ seed: 1, volumeBytes: 16 * chunk - 1024 });
    rig.writeRandomly(0, 16 * chunk - 1024);
    rig.take('s');
    await rig.idle();
    await rig.base.grow(32 * chunk);
    expect(rig.device.size).toBe(32 * chunk);
    await rig.device.write(15 * chunk, rig.random.bytes(2 * chunk));
    expect(rig.device.snapshot('s')?.sizeBytes).toBe(16 * chunk - 1024);
    await rig.checkSnapshots();
    expect(rig.device.changedExtents('s', 0, 32 * chunk)).toEqual([
      { length: 15 * chunk, dirty: false },
      { length: 17 * chunk, dirty: true },
    ]);
  });

  test('knows what is data and what is not', async () => {
    const rig = await CowRig.open({ seed: 1 });
    rig.writeRandomly(0, 2 * chunk);
    rig.take('s');
    rig.zero(0, chunk, 'trim');
    rig.writeRandomly(4 * chunk, chunk);
    await rig.idle();
    const reader = rig.device.openSnapshot('s');
    expect(reader.extents(0, 16 * chunk)).toEqual([
      { length: 2 * chunk, zero: false, hole: false },
      { length: 14 * chunk, zero: true, hole: true },
    ]);
    await reader.close();
  });
});

test('a reader whose read of the volume was overtaken by an overwrite gets the preserved content', async () => {
  const base = new HeldDevice(new MemoryDevice(16 * chunk));
  const { device } = await openOver(base);
  await device.write(0, new Uint8Array(chunk).fill(1));
  await device.takeSnapshot('s', { takenAt });
  const reader = device.openSnapshot('s');
  base.holds.add('read');
  const target = new Uint8Array(chunk);
  const reading = reader.read(0, target);
  base.holds.clear();
  await device.write(0, new Uint8Array(chunk).fill(2));
  base.held.shift()?.complete(); // this device reads only now, after the overwrite
  await reading;
  expectEqual(target, new Uint8Array(chunk).fill(1), 'snapshot');
});

test('32 overlapping snapshots under random writes each read back exactly, also after a restart', async () => {
  const rig = await CowRig.open({ seed: 5, volumeBytes: 256 * 1024, capacityBytes: 16 * 1024 * 1024, slowness: 0.1 });
  for (let index = 0; index < 32; index += 1) {
    for (let writes = 0; writes < 20; writes += 1) {
      rig.writeRandomly(rig.random.below(500) * 512, (1 + rig.random.below(12)) * 512);
    }
    rig.take(`s${index}`);
  }
  await rig.idle();
  expect(rig.failures).toEqual([]);
  expect(rig.device.listSnapshots().length).toBe(32);
  await rig.checkSnapshots();
  for (let index = 0; index < 32; index += 3) rig.delete(`s${index}`);
  await rig.idle();
  await rig.checkSnapshots();
  await rig.crash('power');
  await rig.checkSnapshots();
  expect(rig.lost).toEqual([]);
});

test('a crash before any operation of the disks leaves snapshots and the volume as they must be', {
  timeout: 120_000,
}, async () => {
  const scenario = async (rig: CowRig) => {
    rig.writeRandomly(0, 64 * 1024);
    rig.flush();
    rig.take('a');
    await rig.idle();
    rig.writeRandomly(0, 3 * chunk);
    rig.take('b');
    rig.writeRandomly(chunk, 512);
    rig.zero(4 * chunk, 2 * chunk, 'trim');
    await rig.idle();
    rig.delete('b');
    rig.writeRandomly(8 * chunk, chunk);
    await rig.idle();
    rig.take('c');
    rig.delete('a');
    rig.writeRandomly(0, 64 * 1024);
    await rig.idle();
    rig.clock.advance(1100);
    await rig.idle();
    await rig.device.close();
  };
  const whole = await CowRig.open({ seed: 1 });
  await scenario(whole);
  expect(whole.failures).toEqual([]);
  for (let at = 1; at <= whole.power.operations; at += 1) {
    for (const seed of [1, 2, 3]) {
      const rig = await CowRig.open({ seed: 1000 * at + seed });
      rig.power.cutBefore(rig.power.operations + at);
      await scenario(rig).catch(() => {});
      await rig.crash('power');
      await rig.checkSnapshots();
      expect(rig.lost).toEqual([]);
      rig.writeRandomly(0, 64 * 1024);
      await rig.idle();
      await rig.crash('power');
      await rig.checkSnapshots();
    }
  }
});

test('the index is rewritten when it has grown, while snapshots come and go, and survives a crash meanwhile', async () => {
  for (let seed = 1; seed <= 25; seed += 1) {
    const rig = await CowRig.open({
      seed,
      indexRegionBytes: (seed % 2 === 0 ? 64 : 128) * 1024,
      slowness: 0.2,
      maxSnapshots: 8,
    });
    for (let round = 0; round < 60; round += 1) {
      rig.writeRandomly(rig.random.below(120) * 512, chunk);
      if (round % 5 === 0) rig.take(`s${round}`);
      if (round % 5 === 3 && rig.snapshots.size > 5)
        rig.delete([...rig.snapshots.keys()][rig.random.below(5)] as string);
      if (rig.random.chance(0.7)) await rig.idle();
      rig.clock.advance(1);
      if (rig.random.chance(0.05)) await rig.crash(rig.random.chance(0.5) ? 'power' : 'kill');
    }
    await rig.idle();
    expect(rig.lost).toEqual([]);
    expect(rig.failures).toEqual([]);
    await rig.checkSnapshots();
    await rig.crash('power');
    await rig.checkSnapshots();
  }
});

test('a buffer may be given more room', async () => {
  const rig = await CowRig.open({ seed: 1, capacityBytes: 2 * chunk });
  rig.writeRandomly(0, 64 * 1024);
  rig.take('s');
  rig.writeRandomly(0, 2 * chunk);
  await rig.idle();
  await rig.device.close();
  await rig.start({ capacityBytes: 16 * chunk });
  rig.writeRandomly(0, 64 * 1024);
  await rig.idle();
  expect(rig.lost).toEqual([]);
  await rig.checkSnapshots();
});

test('opening refuses chunk sizes that make no sense, and destroying removes everything', async () => {
  const disk = new SimulatedDisk({ random: new Random(1) });
  const file = await disk.open('data', { create: { size: 16 * chunk, space: 'sparse' } });
  const base = new FileDevice({ file, blockSize: 512, provisioning: 'sparse' });
  const options = {
    base,
    directory: disk,
    name: 'v',
    capacityBytes: 1e6,
    maxSnapshots: 4,
    clock: systemClock,
    log: silentLog,
  };
  for (const chunkSizeBytes of [0, 512, 5000, 8 * 1024 * 1024]) {
    await expect(CowDevice.open({ ...options, chunkSizeBytes })).rejects.toMatchObject({ code: 'Invalid' });
  }
  const device = await CowDevice.open(options);
  expect(await disk.list()).toEqual(['data', 'v.cow']);
  await device.close();
  await CowDevice.destroy(disk, 'v', disk);
  await CowDevice.destroy(disk, 'v', disk);
  expect(await disk.list()).toEqual(['data']);
});
