import { describe, expect, test } from 'vitest';
import type { RandomAccessFile } from '../../../agent/core/storage.ts';
import { BufferLayout } from '../../../agent/cow/buffer-layout.ts';
import { decodeRecords } from '../../../agent/cow/index-codec.ts';
import { IndexLog } from '../../../agent/cow/index-log.ts';
import { readIndex } from '../../../agent/cow/index-reader.ts';
import { IndexReplay } from '../../../agent/cow/index-replay.ts';
import { SnapshotMap } from '../../../agent/cow/snapshot-map.ts';
import { Random } from '../../support/random.ts';
import { SimulatedDisk } from '../../support/simulated-storage.ts';

const layout = new BufferLayout(4096, 1024 * 1024);
const record = { name: 's', takenAt: 'now', consistency: 'crash', internal: false } as const;

async function open() {
  const disk = new SimulatedDisk({ random: new Random(1) });
  const file = await disk.open('v.cow', { create: { size: layout.fileBytes(16), space: 'sparse' } });
  const map = new SnapshotMap(4096);
  const log = new IndexLog(file, layout, map, { region: 0, generation: 1, offset: layout.region(0), sequence: 0 });
  const take = (id: number) => {
    map.take(id, { ...record, name: `s${id}` }, 1e9);
    log.records.take(id, { ...record, name: `s${id}` }, 1e9, false);
  };
  const preserve = (chunk: number) => log.records.preserve(map.preserve(chunk, chunk, 0), chunk, chunk, 0);
  const commit = () => log.commit(false, () => 99);
  return { disk, file, map, log, take, preserve, commit };
}

async function read(file: RandomAccessFile, region: 0 | 1, generation: number) {
  const replay = new IndexReplay(4096);
  let damages = 0;
  const end = await readIndex(
    file,
    { offset: layout.region(region), length: layout.regionBytes, generation },
    {
      frame: (payload) => expect(decodeRecords(payload, replay)).toBeUndefined(),
      damaged: () => {
        damages += 1;
        replay.damaged();
      },
    },
  );
  return { replay, end, damages };
}

describe('reading an index', () => {
  test('cuts a torn last frame off', async () => {
    const { disk, file, take, preserve, commit } = await open();
    take(1);
    await commit();
    preserve(5);
    await commit();
    disk.rot('v.cow', layout.region(0) + 4096 + 30);
    const { replay, end, damages } = await read(file, 0, 1);
    expect(damages).toBe(0);
    expect(end).toMatchObject({ offset: layout.region(0) + 4096, sequence: 1 });
    expect(replay.map.table.count).toBe(0);
    expect(replay.map.kept().length).toBe(1);
  });

  test('takes damage with a later frame behind it for damage: what was there is lost, what came later is not', async () => {
    const { disk, file, take, preserve, commit } = await open();
    take(1);
    await commit();
    for (let chunk = 0; chunk < 500; chunk += 1) preserve(chunk); // a frame of several pages
    await commit();
    take(2);
    await commit();
    preserve(3);
    await commit();
    disk.rot('v.cow', layout.region(0) + 4096 + 14); // its very length
    const { replay, damages } = await read(file, 0, 1);
    expect(damages).toBe(1);
    expect(replay.map.byName('s1')?.state).toBe('Invalid');
    expect(replay.map.byName('s2')?.state).toBe('Pending');
    expect(replay.map.table.count).toBe(1);
  });
});

describe('rewriting', () => {
  test('leaves nothing of an attempt that a crash ended', async () => {
    const { file, log, take, preserve, commit } = await open();
    take(1);
    for (let chunk = 0; chunk < 20_000; chunk += 1) preserve(chunk);
    await commit();
    log.startRewrite(2);
    while (log.copying) await log.stepRewrite();
    log.records.remove(1);
    await commit();
    // The superblock still points to the first region. What is read from there has less to be written anew.
    const { replay, end } = await read(file, 0, 1);
    expect(replay.map.table.count).toBe(0);
    const position = { region: 0, generation: 1, offset: end.offset, sequence: end.sequence } as const;
    const again = new IndexLog(file, layout, replay.map, position);
    again.startRewrite(2);
    while (again.copying) await again.stepRewrite();
    for (let commits = 0; commits < 3; commits += 1) await again.commit(false, () => 99);
    expect(again.rewriting).toBe(false);
    const rewritten = await read(file, 1, 2);
    expect(rewritten.damages).toBe(0);
    expect(rewritten.replay.map.table.count).toBe(0);
    expect(rewritten.replay.unusedId).toBe(2);
  });

  test('happens at once when the region is full', async () => {
    const { file, map, log, take, preserve, commit } = await open();
    take(1);
    for (let chunk = 0; chunk < 300; chunk += 1) {
      preserve(chunk);
      await commit();
    }
    expect(log.bytes).toBeLessThan(layout.regionBytes / 4);
    preserve(1000);
    await commit();
    const { replay, damages } = await read(file, 1, 2);
    expect(damages).toBe(0);
    expect(replay.map.table.count).toBe(map.table.count);
  });

  test('keeps the names of snapshots when its first frame is damaged, and their content counts as lost', async () => {
    const { disk, file, log, take, preserve, commit } = await open();
    take(1);
    preserve(1);
    await commit();
    log.startRewrite(2);
    while (log.copying) await log.stepRewrite();
    for (let commits = 0; commits < 3; commits += 1) await commit();
    disk.rot('v.cow', layout.region(1) + 40);
    const { replay, damages } = await read(file, 1, 2);
    expect(damages).toBe(1);
    expect(replay.map.byName('s1')?.state ?? 'gone').not.toBe('Ready');
  });
});
