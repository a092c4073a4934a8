import { describe, expect, test } from 'vitest';
import { BlockMap } from '../../../agent/mirror/block-map.ts';
import {
  decodeRecords,
  decodeSeal,
  encodeRecordHeader,
  encodeSeal,
  type StreamRecord,
} from '../../../agent/mirror/journal-codec.ts';
import { entryTypes, type StreamEntry } from '../../../agent/mirror/stream-entry.ts';
import { StreamJournal } from '../../../agent/mirror/stream-journal.ts';
import { WriteStream } from '../../../agent/mirror/write-stream.ts';
import { silentLog } from '../../../common/log.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { Random } from '../../support/random.ts';
import { settle } from '../../support/settle.ts';
import { SimulatedDisk } from '../../support/simulated-storage.ts';
import { waitFor } from '../../support/wait-for.ts';

const name = 'journal-m';
const capacityBytes = 64 * 1024;

function write(value: number, length = 512): StreamEntry {
  return { type: entryTypes.write, flags: 0, offset: value * 512, length: 0, payload: Buffer.alloc(length, value) };
}

function record(position: number, entry = write(position % 200)): StreamRecord {
  return { position, wallTimeMs: 1_000 + position, entry };
}

function encode(records: readonly StreamRecord[]): Buffer {
  return Buffer.concat(records.flatMap((each) => [encodeRecordHeader(each), each.entry.payload]));
}

describe('records', () => {
  const records = [
    record(7),
    record(8, { type: entryTypes.flush, flags: 0, offset: 0, length: 0, payload: Buffer.alloc(0) }),
    record(9),
  ];
  const bytes = encode(records);

  test('come back as they were, and say what the next one needs', () => {
    const decoded = decodeRecords(bytes, 7);
    expect(decoded.usedBytes).toBe(bytes.length);
    expect(
      decoded.records.map(({ position, wallTimeMs, entry }) => ({ position, wallTimeMs, type: entry.type })),
    ).toEqual(records.map(({ position, wallTimeMs, entry }) => ({ position, wallTimeMs, type: entry.type })));
  });

  test('that are cut off anywhere are as many as were whole', () => {
    const ends = [560, 608, 1168];
    for (let length = 0; length <= bytes.length; length += 1) {
      const { records: whole, usedBytes } = decodeRecords(bytes.subarray(0, length), 7);
      expect(whole).toHaveLength(ends.filter((end) => end <= length).length);
      expect(usedBytes).toBe(Math.max(0, ...ends.filter((end) => end <= length)));
    }
  });

  test('of which one byte has changed are refused', () => {
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] as number) ^ 0x40;
      // A length that has changed may say that more is to come: what is whole is right.
      let whole: readonly StreamRecord[] = [];
      try {
        whole = decodeRecords(changed, 7).records;
      } catch {}
      expect(whole.length).toBeLessThan(3);
    }
  });

  test('at another position are refused: they are of an earlier round', () => {
    expect(() => decodeRecords(bytes, 8)).toThrow(/position 7/);
  });
});

test('a seal is whole or none, wherever it is cut off or changed', () => {
  const seal = encodeSeal({ stream: 's', confirmed: 3, end: 5, announced: 0, records: [record(4), record(5)] });
  expect(decodeSeal(seal)).toMatchObject({ stream: 's', confirmed: 3, end: 5 });
  for (let length = 0; length < seal.length; length += 1)
    expect(() => decodeSeal(seal.subarray(0, length))).toThrow(/seal/);
  for (let at = 0; at < seal.length; at += 1) {
    const changed = Buffer.from(seal);
    changed[at] = (changed[at] as number) ^ 1;
    expect(() => decodeSeal(changed)).toThrow(/seal/);
  }
});

class Rig {
  readonly clock = new ManualClock();
  readonly disk: SimulatedDisk;
  stream!: WriteStream;
  journal!: StreamJournal;
  broken: string | undefined;

  constructor(seed: number) {
    this.disk = new SimulatedDisk({ random: new Random(seed), slowness: seed >= 100 ? 0 : 0.5 });
  }

  async open(): Promise<'resumed' | 'new'> {
    const place = { directory: this.disk, name, capacityBytes };
    const { journal, seal } = await StreamJournal.open(place, silentLog);
    this.journal = journal;
    this.broken = undefined;
    const options = {
      queueBytes: 8 * 1024,
      journal,
      clock: this.clock,
      onReadable: () => undefined,
      onBroken: (reason: string) => {
        this.broken = reason;
      },
    };
    this.stream = seal ? WriteStream.resume(seal, options) : new WriteStream({ ...options, id: 'id' });
    return seal ? 'resumed' : 'new';
  }

  /** Takes entries, confirming each at once, until there are so many. */
  async takeAll(count: number): Promise<number[]> {
    const values: number[] = [];
    await waitFor(
      () => {
        for (let entry = this.stream.take(); entry; entry = this.stream.take()) {
          values.push(entry.payload[0] as number);
          this.stream.synced(this.stream.taken);
        }
        return values.length === count || this.broken !== undefined;
      },
      { timeoutMs: 5_000, intervalMs: 1 },
    );
    return values;
  }
}

const expected = (from: number, count: number) => Array.from({ length: count }, (_, index) => (from + index) % 200);

describe('a stream with a journal', () => {
  test('hands everything out in order, round and round, whatever does not fit into memory', async () => {
    const rig = new Rig(1);
    await rig.open();
    for (let round = 0; round < 10; round += 1) {
      for (let index = 0; index < 80; index += 1) rig.stream.append(write((round * 80 + index) % 200));
      expect(rig.stream.spilled).toBe(true);
      expect(rig.stream.lagBytes).toBe(80 * 512);
      expect(await rig.takeAll(80)).toEqual(expected(round * 80, 80));
      expect(rig.stream.lagBytes).toBe(0);
      expect(rig.stream.spilled).toBe(false);
    }
    expect(rig.broken).toBeUndefined();
  });

  test('hands out what was appended at whatever moment, also just when a write has ended', async () => {
    for (let turns = 0; turns < 12; turns += 1) {
      const rig = new Rig(100 + turns);
      let gate = Promise.withResolvers<void>();
      const { disk } = rig;
      const open = disk.open.bind(disk);
      disk.open = async (...opening) => {
        const file = await open(...opening);
        const put = file.write.bind(file);
        file.write = async (offset, data) => {
          await gate.promise;
          await put(offset, data);
        };
        return file;
      };
      await rig.open();
      for (let index = 0; index < 20; index += 1) rig.stream.append(write(index));
      expect(rig.stream.spilled).toBe(true);
      const first = gate;
      gate = Promise.withResolvers();
      gate.resolve();
      first.resolve();
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      rig.stream.append(write(20));
      // Nothing else is appended that would start a write.
      await settle();
      expect(await rig.takeAll(21)).toEqual(expected(0, 21));
    }
  });

  test('that is full is given up, and leaves a record of everything that was not confirmed', async () => {
    const rig = new Rig(2);
    await rig.open();
    for (let index = 0; index < 200; index += 1) rig.stream.append(write(index));
    expect(rig.broken).toMatch(/full/);
    const missed = new BlockMap(4096);
    rig.stream.giveUp(missed);
    for (let index = 0; index < 200; index += 1) expect(missed.has(index * 512)).toBe(true);
  });

  test('goes on after an orderly stop, with the age of what is in it', async () => {
    const rig = new Rig(3);
    await rig.open();
    for (let index = 0; index < 90; index += 1) rig.stream.append(write(index));
    const first = [rig.stream.take(), rig.stream.take()].map((entry) => entry?.payload[0]);
    expect(first).toEqual([0, 1]);
    rig.stream.synced(1);
    await rig.stream.seal();
    await rig.journal.close();
    rig.clock.advance(7_000);
    rig.disk.crash();
    expect(await rig.open()).toBe('resumed');
    expect(rig.stream.end).toBe(90);
    expect(rig.stream.lagMs).toBeGreaterThanOrEqual(7_000);
    for (let index = 90; index < 100; index += 1) rig.stream.append(write(index));
    expect(rig.stream.rewind(1)).toBe(true);
    expect(rig.stream.rewind(0)).toBe(false);
    expect(await rig.takeAll(99)).toEqual(expected(1, 99));
  });

  test('is not used after any other stop, nor a second time', async () => {
    const rig = new Rig(4);
    await rig.open();
    for (let index = 0; index < 90; index += 1) rig.stream.append(write(index));
    rig.disk.crash();
    expect(await rig.open()).toBe('new');
    for (let index = 0; index < 90; index += 1) rig.stream.append(write(index));
    await rig.stream.seal();
    await rig.journal.close();
    expect(await rig.open()).toBe('resumed');
    rig.stream.append(write(91));
    rig.disk.crash();
    expect(await rig.open()).toBe('new');
  });

  test('whose ring was damaged is given up when it comes to that, and hands out nothing wrong', async () => {
    for (let seed = 10; seed < 40; seed += 1) {
      const rig = new Rig(seed);
      await rig.open();
      for (let index = 0; index < 90; index += 1) rig.stream.append(write(index));
      await rig.stream.seal();
      await rig.journal.close();
      const pages = rig.disk.writtenPages(name);
      const page = pages[seed % pages.length] as number;
      rig.disk.rot(name, page + ((seed * 97) % 4096));
      expect(await rig.open()).toBe('resumed');
      const values = await rig.takeAll(90);
      expect(values).toEqual(expected(0, values.length));
      if (values.length < 90) expect(rig.broken).toMatch(/damaged/);
    }
  });
});
