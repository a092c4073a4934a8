import { describe, expect, test } from 'vitest';
import { FileDevice } from '../../../agent/store/file-device.ts';
import { FillDevice } from '../../../agent/volume/fill-device.ts';
import { FilledChunks, fillChunkBytes } from '../../../agent/volume/filled-chunks.ts';
import { Random } from '../../support/random.ts';
import { SimulatedDisk, SimulatedPower } from '../../support/simulated-storage.ts';

const sizeBytes = 10 * fillChunkBytes + 4096;
const blockBytes = 4096;
/** What every byte of the source is; the disk is zero, so whatever is lost shows. */
const ofSource = 0xee;

interface Rig {
  readonly device: FillDevice;
  readonly filled: FilledChunks;
  readonly disk: SimulatedDisk;
  reads: number;
}

async function openOn(disk: SimulatedDisk, isNew: boolean): Promise<Rig> {
  const file = await disk.open('data', isNew ? { create: { size: sizeBytes, space: 'sparse' } } : {});
  if (isNew) await file.sync();
  const filled = await FilledChunks.open(disk, sizeBytes, isNew);
  const rig = { filled, disk, reads: 0 };
  const source = {
    read: async ({ length }: { length: number }) => {
      rig.reads += 1;
      return Buffer.alloc(length, ofSource);
    },
  };
  const base = new FileDevice({ file, blockSize: 512, provisioning: 'sparse' });
  return Object.assign(rig, { device: new FillDevice({ base, filled, source, stop: async () => {} }) });
}

async function content({ device }: Rig): Promise<Buffer> {
  const found = Buffer.alloc(sizeBytes);
  await device.read(0, found);
  return found;
}

/** For each block, what it may hold: the last version that was flushed, and every later one. */
class Versions {
  readonly #versions = Array.from({ length: sizeBytes / blockBytes }, () => [ofSource]);

  write(offset: number, length: number, value: number): void {
    for (let at = offset; at < offset + length; at += blockBytes) this.#versions[at / blockBytes]?.push(value);
  }

  /** What has been written until now cannot be undone any more. */
  settle(): void {
    for (const versions of this.#versions) versions.splice(0, versions.length - 1);
  }

  check(found: Buffer): void {
    // A torn block has sectors of several versions.
    for (let at = 0; at < sizeBytes; at += 512) {
      const versions = this.#versions[Math.floor(at / blockBytes)] ?? [];
      const sector = found.subarray(at, at + 512);
      const [value = -1] = sector;
      if (versions.includes(value) && sector.every((byte) => byte === value)) continue;
      throw new Error(`the sector at ${at} holds ${value}, expected ${versions.join(' or ')}`);
    }
  }
}

/**
 * Random writes, zeroes, trims, flushes and fillings. `how`: the death of the process leaves all that was acknowledged, that
 * of the machine what was flushed.
 */
async function work({ device }: Rig, random: Random, versions: Versions, how: 'kill' | 'crash'): Promise<void> {
  for (let round = 1; round < 40; round += 1) {
    const offset = random.below(sizeBytes / blockBytes - 1) * blockBytes;
    const length = Math.min(sizeBytes - offset, (1 + random.below(40)) * blockBytes);
    const kind = random.below(6);
    if (kind === 0) {
      await device.flush();
      versions.settle();
    } else if (kind === 1) {
      const start = offset - (offset % fillChunkBytes);
      await device.fill({ offset: start, length: Math.min(3 * fillChunkBytes, sizeBytes - start) }, false);
    } else {
      const value = kind > 3 ? 0 : round;
      versions.write(offset, length, value);
      if (kind === 4) await device.trim(offset, length);
      else if (kind === 5) await device.writeZeroes(offset, length);
      else await device.write(offset, Buffer.alloc(length, value));
      if (how === 'kill') versions.settle();
    }
  }
}

describe('a volume that is filled behind its users', () => {
  test.each(['kill', 'crash'] as const)(
    'holds what it has to, and nothing else, after a %s at any moment',
    async (how) => {
      for (let seed = 0; seed < 150; seed += 1) {
        const random = new Random(seed);
        const power = new SimulatedPower();
        const disk = new SimulatedDisk({ power, random, slowness: 0.3 });
        const versions = new Versions();
        const rig = await openOn(disk, true);
        power.cutBefore(power.operations + 1 + random.below(120));
        await work(rig, random, versions, how).catch((error: unknown) => {
          if (!power.isOff) throw error;
        });
        power.restore();
        disk[how]();
        const again = await openOn(disk, false);
        versions.check(await content(again));
        await again.device.fill({ offset: 0, length: sizeBytes }, false);
        expect(again.filled.isComplete, `seed ${seed}`).toBe(true);
        versions.check(await content(again));
      }
    },
  );

  test('operations on one chunk keep their order though some of them wait for the source', async () => {
    const disk = new SimulatedDisk({ random: new Random(1) });
    const rig = await openOn(disk, true);
    const before = Buffer.alloc(blockBytes);
    const after = Buffer.alloc(blockBytes);
    const { device } = rig;
    await Promise.all([
      device.read(blockBytes, before),
      device.write(blockBytes, Buffer.alloc(blockBytes, 1)),
      device.fill({ offset: 0, length: fillChunkBytes }, false),
      device.write(blockBytes, Buffer.alloc(blockBytes, 2)),
      device.read(blockBytes, after),
    ]);
    expect([before[0], after[0]]).toEqual([ofSource, 2]);
    const { reads } = rig;
    await device.read(0, Buffer.alloc(fillChunkBytes));
    expect(rig.reads).toBe(reads);
    expect(device.extents(0, 2 * fillChunkBytes).at(-1)).toEqual({ length: fillChunkBytes, zero: false, hole: false });
  });

  test('a whole chunk is written without asking the source', async () => {
    const rig = await openOn(new SimulatedDisk({ random: new Random(2) }), true);
    await rig.device.write(fillChunkBytes, Buffer.alloc(2 * fillChunkBytes, 5));
    expect(rig.reads).toBe(0);
    expect(rig.filled.filledBytes).toBe(2 * fillChunkBytes - (fillChunkBytes - 4096));
  });

  test('a record that is damaged, or was synced and is gone, is found, rather than filling anew what was written', async () => {
    for (const damage of [Buffer.alloc(16), Buffer.alloc(16, 0x55)]) {
      const disk = new SimulatedDisk({ random: new Random(3) });
      const { device } = await openOn(disk, true);
      await device.write(0, Buffer.alloc(4096, 1));
      await device.flush();
      await device.write(fillChunkBytes, Buffer.alloc(4096, 1));
      await device.close();
      const file = await disk.open('fill');
      await file.write(0, damage);
      await expect(openOn(disk, false)).rejects.toThrow(/record of what has been filled is damaged/);
    }
  });
});
