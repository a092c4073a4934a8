import { describe, expect, test } from 'vitest';
import { FileDevice } from '../../../agent/store/file-device.ts';
import { expectEqual } from '../../support/cow-rig.ts';
import { Random } from '../../support/random.ts';
import { settle } from '../../support/settle.ts';
import { SimulatedDisk } from '../../support/simulated-storage.ts';

const size = 64 * 4096;

async function open(provisioning: 'thick' | 'sparse', slowness = 0) {
  const disk = new SimulatedDisk({ random: new Random(1), slowness });
  const space = provisioning === 'thick' ? 'allocate' : 'sparse';
  const file = await disk.open('f', { create: { size, space } });
  return { disk, device: new FileDevice({ file, blockSize: 512, provisioning }) };
}

describe('space', () => {
  test('of a thick volume stays, whatever is trimmed and zeroed', async () => {
    const { disk, device } = await open('thick');
    await device.write(0, new Uint8Array(size).fill(1));
    await device.trim(0, size / 2);
    await device.writeZeroes(size / 2, size / 4);
    expect(disk.usedBytes).toBe(size);
    expect(device.extents(0, size).every(({ hole }) => !hole)).toBe(true);
  });

  test('of a sparse volume is given back, unless it is to be kept', async () => {
    const { disk, device } = await open('sparse');
    await device.write(0, new Uint8Array(size).fill(1));
    await device.writeZeroes(0, size / 4, { keepAllocated: true });
    expect(disk.usedBytes).toBe(size);
    await device.writeZeroes(0, size / 4);
    await device.trim(size / 4, size / 4);
    expect(disk.usedBytes).toBe(size / 2);
    expect(device.extents(0, size)).toEqual([
      { length: size / 2, zero: true, hole: true },
      { length: size / 2, zero: false, hole: false },
    ]);
  });
});

test('overlapping operations take effect in the order of their calls, however slow the file', async () => {
  const { device } = await open('sparse', 0.5);
  const random = new Random(2);
  const twin = new Uint8Array(size);
  const running: (Promise<void> | undefined)[] = [];
  for (let step = 0; step < 2000; step += 1) {
    const offset = random.below(60) * 512;
    const length = (1 + random.below(8)) * 512;
    if (random.chance(0.5)) {
      const data = random.bytes(length);
      running.push(device.write(offset, data));
      twin.set(data, offset);
    } else if (random.chance(0.3)) {
      running.push(device.trim(offset, length));
      twin.fill(0, offset, offset + length);
    } else {
      const target = new Uint8Array(length);
      const expected = twin.slice(offset, offset + length);
      running.push(
        Promise.resolve(device.read(offset, target)).then(() => expectEqual(target, expected, `step ${step}`)),
      );
    }
  }
  await Promise.all(running);
});

test('FUA and flush complete only with a sync behind the write', async () => {
  for (const durable of ['fua', 'flush'] as const) {
    const { disk, device } = await open('sparse');
    await device.write(0, new Uint8Array(512).fill(1), { fua: durable === 'fua' });
    if (durable === 'flush') await device.flush();
    disk.crash();
    const file = await disk.open('f');
    const target = new Uint8Array(512);
    await file.read(0, target);
    expect(target[0]).toBe(1);
  }
});

test('grows, never shrinks, and refuses everything once closed', async () => {
  const { device } = await open('sparse');
  await expect(device.grow(size - 512)).rejects.toMatchObject({ code: 'Invalid' });
  await expect(device.grow(size + 100)).rejects.toMatchObject({ code: 'Invalid' });
  await device.grow(2 * size);
  expect(device.size).toBe(2 * size);
  await device.write(2 * size - 512, new Uint8Array(512));
  await device.close();
  await device.close();
  await expect(device.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'Closed' });
  await expect(device.flush()).rejects.toMatchObject({ code: 'Closed' });
  expect(() => device.extents(0, 512)).toThrow(expect.objectContaining({ code: 'Closed' }));
});

test('once a sync has failed, nothing is written any more', async () => {
  const { disk, device } = await open('sparse');
  disk.failing.syncs = true;
  await expect(device.flush()).rejects.toMatchObject({ code: 'Io' });
  disk.failing = {};
  await expect(device.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'Io' });
  await expect(device.flush()).rejects.toMatchObject({ code: 'Io' });
});

test('closing waits for the sync of a FUA write that is under way', async () => {
  const { disk } = await open('sparse');
  const file = await disk.open('g', { create: { size, space: 'sparse' } });
  const sync = Promise.withResolvers<void>();
  const syncs = [sync.promise];
  let closed = false;
  const slow = {
    size: file.size,
    read: file.read.bind(file),
    write: file.write.bind(file),
    zero: file.zero.bind(file),
    extents: file.extents.bind(file),
    resize: file.resize.bind(file),
    sync: () => syncs.shift() ?? file.sync(),
    close: () => {
      closed = true;
      return file.close();
    },
  };
  const device = new FileDevice({ file: slow, blockSize: 512, provisioning: 'sparse' });
  const written = device.write(0, new Uint8Array(512), { fua: true });
  const closing = device.close();
  await settle(20);
  expect(closed).toBe(false);
  sync.resolve();
  await Promise.all([written, closing]);
  expect(closed).toBe(true);
});
