import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ScratchDevice } from '../../../agent/cow/scratch-device.ts';
import { expectEqual } from '../../support/cow-rig.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { Random } from '../../support/random.ts';
import { SimulatedDisk } from '../../support/simulated-storage.ts';
import { VolumeModel } from '../../support/volume-model.ts';

const size = 16 * 4096 + 1024;

function baseOf(random: Random): MemoryDevice {
  const base = new MemoryDevice(size);
  base.write(0, random.bytes(size / 2 - ((size / 2) % 512)));
  return base;
}

async function contentOf(device: ScratchDevice): Promise<Uint8Array> {
  const content = new Uint8Array(size);
  await device.read(0, content);
  return content;
}

const step = fc.record({
  kind: fc.constantFrom(
    'write',
    'write',
    'write',
    'trim',
    'writeZeroes',
    'flush',
    'read',
    'idle',
    'crash',
    'kill',
    'reopen',
  ),
  sector: fc.nat(size / 512 - 1),
  sectors: fc.integer({ min: 1, max: 20 }),
});

test('an overlay holds what was written, over what is below, through crashes; the base stays as it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(step, { maxLength: 40 }), async (seed, steps) => {
      const random = new Random(seed);
      const disk = new SimulatedDisk({ random, slowness: 0.3 });
      const base = baseOf(random);
      const below = base.bytes.slice();
      const model = new VolumeModel(base.bytes.slice());
      // The base outlives the overlay here.
      base.close = async () => {};
      const open = () => ScratchDevice.open({ base, directory: disk.mount(), name: 'overlay' });
      let device = await open();
      let running: Promise<void>[] = [];
      for (const { kind, sector, sectors } of steps) {
        const offset = sector * 512;
        const length = Math.min(sectors * 512, size - offset);
        if (kind === 'idle') {
          await Promise.all(running.splice(0));
        } else if (kind === 'read') {
          const expected = model.bytes.slice(offset, offset + length);
          const target = new Uint8Array(length);
          running.push(
            (async () => {
              await device.read(offset, target);
              expectEqual(target, expected, 'read');
            })(),
          );
        } else if (kind === 'flush') {
          const flushed = model.flush(false);
          running.push(Promise.resolve(device.flush()).then(flushed));
        } else if (kind === 'write' || kind === 'trim' || kind === 'writeZeroes') {
          const data = kind === 'write' ? random.bytes(length) : new Uint8Array(length);
          const operation = model.write(offset, data);
          const completion = kind === 'write' ? device.write(offset, data) : device[kind](offset, length);
          running.push(
            Promise.resolve(completion).then(() => {
              operation.done = true;
            }),
          );
        } else if (kind === 'reopen') {
          await Promise.all(running.splice(0));
          const closed = model.flush(true);
          await device.close();
          closed();
          device = await open();
        } else {
          if (kind === 'crash') disk.crash();
          else disk.kill();
          await Promise.allSettled(running);
          running = [];
          device = await open();
          expect(model.crashedInto(await contentOf(device), kind === 'crash' ? 'power' : 'kill')).toBeUndefined();
        }
      }
      await Promise.all(running);
      expectEqual(await contentOf(device), model.bytes, 'overlay');
      expectEqual(base.bytes, below, 'base');
    }),
    { numRuns: 150 },
  );
});

test('what completed is there after the process was killed, flushed or not', async () => {
  const random = new Random(1);
  const disk = new SimulatedDisk({ random });
  const base = baseOf(random);
  const device = await ScratchDevice.open({ base, directory: disk.mount(), name: 'o' });
  const data = random.bytes(1536);
  await device.write(512, data);
  disk.kill();
  const again = await ScratchDevice.open({ base, directory: disk.mount(), name: 'o' });
  const target = new Uint8Array(1536);
  await again.read(512, target);
  expectEqual(target, data, 'after the kill');
});

test('knows its holes, refuses a damaged index and another device, and is destroyed whole', async () => {
  const random = new Random(1);
  const disk = new SimulatedDisk({ random });
  const base = new MemoryDevice(size);
  const name = `scratch-${'x'.repeat(250)}`;
  const device = await ScratchDevice.open({ base, directory: disk, name });
  await device.write(4096, random.bytes(4096));
  expect(device.extents(0, 3 * 4096)).toEqual([
    { length: 4096, zero: true, hole: true },
    { length: 4096, zero: false, hole: false },
    { length: 4096, zero: true, hole: true },
  ]);
  await device.close();
  expect(base.isClosed).toBe(true);
  await expect(device.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'Closed' });
  const other = new MemoryDevice(2 * size);
  await expect(ScratchDevice.open({ base: other, directory: disk, name })).rejects.toMatchObject({ code: 'Conflict' });
  const index = (await disk.list()).find((file) => file.endsWith('-index')) as string;
  const content = (await disk.readFile(index)) as Uint8Array;
  content[25] = (content[25] as number) ^ 4;
  await disk.writeFile(index, content);
  await expect(ScratchDevice.open({ base, directory: disk, name })).rejects.toMatchObject({ code: 'Corrupt' });
  await ScratchDevice.destroy(disk, name);
  expect(await disk.list()).toEqual([]);
});
