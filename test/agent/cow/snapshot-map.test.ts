import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { none } from '../../../agent/cow/chunk-table.ts';
import { type Snapshot, SnapshotMap } from '../../../agent/cow/snapshot-map.ts';

const chunkSize = 4096;
const chunks = 12;

function recordOf(name: string, internal = false) {
  return { name, takenAt: '2020-01-01T00:00:00Z', consistency: 'crash' as const, internal };
}

/** What each snapshot preserved, without any sharing: the definition of what the map must answer. */
class Twin {
  readonly contents = new Map<number, (number | undefined)[]>();
  /** Slot of each version of a chunk that was preserved; a version is shared by all snapshots that hold it. */
  readonly volume: number[] = new Array(chunks).fill(0);
  readonly slots = new Map<string, number>();
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.nat(chunks - 1).map((chunk) => ({ kind: 'overwrite' as const, chunk })) },
  { weight: 2, arbitrary: fc.constant({ kind: 'take' as const }) },
  { weight: 1, arbitrary: fc.nat().map((which) => ({ kind: 'remove' as const, which })) },
  { weight: 1, arbitrary: fc.nat().map((which) => ({ kind: 'invalidate' as const, which })) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 3 }).map((budget) => ({ kind: 'merge' as const, budget })) },
);

test('reads, frees, counts and compares as if every snapshot kept a copy of its own', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const map = new SnapshotMap(chunkSize);
      const twin = new Twin();
      const used = new Set<number>();
      let nextSlot = 0;
      let nextId = 1;
      const freed = (slot: number) => expect(used.delete(slot)).toBe(true);
      for (const at of steps) {
        if (at.kind === 'take') {
          map.take(nextId, recordOf(`s${nextId}`), chunks * chunkSize);
          map.markReady(nextId);
          twin.contents.set(nextId, [...twin.volume]);
          nextId += 1;
        } else if (at.kind === 'overwrite') {
          if (map.needsPreservation(at.chunk)) {
            // Every fifth version is all zeroes, and takes no slot.
            const version = twin.volume[at.chunk] as number;
            const slot = version % 5 === 4 ? none : nextSlot;
            if (slot !== none) used.add(slot);
            nextSlot += 1;
            twin.slots.set(`${at.chunk}:${version}`, slot);
            map.preserve(at.chunk, slot, 0);
          }
          twin.volume[at.chunk] = (twin.volume[at.chunk] as number) + 1;
        } else if (at.kind === 'merge') {
          map.merge(at.budget, freed);
        } else {
          const kept = [...twin.contents.keys()];
          const id = kept[at.which % kept.length];
          if (id === undefined) continue;
          twin.contents.delete(id);
          if (at.kind === 'remove') map.remove(id);
          else map.invalidate(id, 'because');
        }
        check(map, twin);
      }
      while (!map.merge(2, freed)) check(map, twin);
      check(map, twin);
      // What is left is read by somebody.
      const read = new Set<number>();
      for (const snapshot of map.kept()) {
        for (let chunk = 0; chunk < chunks; chunk += 1) {
          const entry = map.find(snapshot.id, chunk);
          if (entry !== none && map.table.slotOf(entry) !== none) read.add(map.table.slotOf(entry));
        }
      }
      expect([...used].sort()).toEqual([...read].sort());
      expect(map.dataChunks).toBe(used.size);
    }),
    { numRuns: 400 },
  );
});

function check(map: SnapshotMap, twin: Twin): void {
  const slotsBySnapshot = new Map<Snapshot, number[]>();
  for (const [id, content] of twin.contents) {
    const snapshot = map.byId(id) as Snapshot;
    const slots: number[] = [];
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      const entry = map.find(id, chunk);
      const version = content[chunk] as number;
      if (version === twin.volume[chunk]) expect(entry).toBe(none);
      else expect(entry === none ? 'volume' : map.table.slotOf(entry)).toBe(twin.slots.get(`${chunk}:${version}`));
      if (entry !== none && map.table.slotOf(entry) !== none) slots.push(map.table.slotOf(entry));
      if (entry !== none) expect(map.readersOf(entry)).toContain(snapshot);
      else expect(map.readersOfVolume(chunk)).toContain(snapshot);
      expect(map.changed(chunk, snapshot, chunks * chunkSize)).toBe(entry !== none);
      for (const [newerId, newer] of twin.contents) {
        if (newerId < id) continue;
        const until = map.byId(newerId) as Snapshot;
        expect(map.changed(chunk, snapshot, until.sizeBytes, until)).toBe(newer[chunk] !== version);
      }
    }
    slotsBySnapshot.set(snapshot, slots);
  }
  for (const [snapshot, slots] of slotsBySnapshot) {
    const others = new Set(
      [...slotsBySnapshot].filter(([other]) => other !== snapshot).flatMap(([, theirs]) => theirs),
    );
    expect(map.bufferChunks(snapshot)).toBe(slots.length);
    expect(map.exclusiveChunks(snapshot)).toBe(slots.filter((slot) => !others.has(slot)).length);
  }
}

describe('victims', () => {
  test('are the oldest first, but those in use and internal ones only if no others will do', () => {
    const map = new SnapshotMap(chunkSize);
    for (const id of [1, 2, 3]) {
      map.take(id, recordOf(`s${id}`, id === 1), chunks * chunkSize);
      map.markReady(id);
      map.preserve(0, id, 0);
      map.preserve(1, 10 + id, 0);
    }
    const names = () => {
      while (!map.merge(10, () => {}));
      return map.victims().map(({ record }) => record.name);
    };
    expect(names()).toEqual(['s2']);
    (map.byId(2) as Snapshot).readers = 1;
    expect(names()).toEqual(['s3']);
    map.invalidate(3, 'lost');
    expect(names()).toEqual(['s2']);
    map.invalidate(2, 'lost');
    expect(names()).toEqual(['s1']);
    map.invalidate(1, 'lost');
    expect(names()).toEqual([]);
  });

  test('are given up one by one when there is nothing to be freed', () => {
    const map = new SnapshotMap(chunkSize);
    for (const id of [1, 2]) map.take(id, recordOf(`s${id}`), chunks * chunkSize);
    expect(map.victims().map(({ id }) => id)).toEqual([1]);
  });
});

test('what lies past the end of a snapshot is not preserved for it, and counts as changed', () => {
  const map = new SnapshotMap(chunkSize);
  const snapshot = map.take(1, recordOf('s'), 2.5 * chunkSize);
  expect([0, 1, 2, 3].map((chunk) => map.needsPreservation(chunk))).toEqual([true, true, true, false]);
  const changed = (size: number) => [0, 1, 2, 3].map((chunk) => map.changed(chunk, snapshot, size * chunkSize));
  expect(changed(2.5)).toEqual([false, false, false, false]);
  expect(changed(4)).toEqual([false, false, true, true]);
});
