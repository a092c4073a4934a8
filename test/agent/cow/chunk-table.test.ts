import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ChunkTable, none } from '../../../agent/cow/chunk-table.ts';
import { Random } from '../../support/random.ts';

/** Entries by chunk and layer, in plain maps. */
class Twin {
  readonly chunks = new Map<number, Map<number, number>>();

  layers(chunk: number): number[] {
    return [...(this.chunks.get(chunk)?.keys() ?? [])].sort((a, b) => b - a);
  }
}

function layersOf(table: ChunkTable, chunk: number): number[] {
  const layers: number[] = [];
  for (let entry = table.newestOf(chunk); entry !== none; entry = table.olderThan(entry))
    layers.push(table.layerOf(entry));
  return layers;
}

test('finds, chains, moves and removes entries as plain maps do', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 3000 }), (seed, steps) => {
      const random = new Random(seed);
      const table = new ChunkTable();
      const twin = new Twin();
      // Few home buckets and many chunks, so that searches run into each other.
      const chunkOf = () => random.below(400) * (random.chance(0.5) ? 1 : 4096);
      for (let step = 0; step < steps; step += 1) {
        const chunk = chunkOf();
        const layer = 1 + random.below(6);
        const layers = twin.chunks.get(chunk) ?? new Map<number, number>();
        if (random.chance(0.6)) {
          if (layers.has(layer)) continue;
          const slot = random.word();
          table.add(layer, chunk, slot, step);
          twin.chunks.set(chunk, layers.set(layer, slot));
        } else {
          const entry = table.firstOfLayer(layer);
          if (entry === none) continue;
          const owner = table.chunkOf(entry);
          const owned = twin.chunks.get(owner) as Map<number, number>;
          const older = table.olderThan(entry);
          const target = layer - 1;
          if (random.chance(0.5) && target > 0 && (older === none || table.layerOf(older) < target)) {
            table.moveFirstOfLayer(layer, target);
            owned.set(target, owned.get(layer) as number);
          } else {
            table.removeFirstOfLayer(layer);
          }
          owned.delete(layer);
        }
      }
      let count = 0;
      for (const [chunk, layers] of twin.chunks) {
        expect(layersOf(table, chunk)).toEqual(twin.layers(chunk));
        for (let entry = table.newestOf(chunk); entry !== none; entry = table.olderThan(entry)) {
          expect(table.slotOf(entry)).toBe(layers.get(table.layerOf(entry)));
          count += 1;
        }
      }
      expect(table.count).toBe(count);
    }),
    { numRuns: 60 },
  );
});

test('takes an entry out of the middle of its layer and chain', () => {
  const table = new ChunkTable();
  const entries = [1, 2, 3].map((layer) => table.add(layer, 5, layer, 0));
  table.add(2, 6, 9, 0);
  table.remove(entries[1] as number);
  expect(layersOf(table, 5)).toEqual([3, 1]);
  expect(table.chunkOf(table.firstOfLayer(2))).toBe(6);
});
