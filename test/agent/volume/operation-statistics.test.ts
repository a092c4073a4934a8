import { expect, test } from 'vitest';
import { durationBucketsSeconds, OperationStatistics } from '../../../agent/volume/operation-statistics.ts';

test('operations are counted by kind and by how long they took; a bound belongs to its bucket', () => {
  const statistics = new OperationStatistics();
  statistics.finished('write', 0.01, 512, true);
  statistics.finished('write', 0.05, 512, true);
  statistics.finished('write', 0.051, 4096, true);
  statistics.finished('write', 60_000, 4096, false);
  statistics.finished('read', 1, 8192, true);
  const { read, write, flush } = statistics.counts();
  expect(write.buckets.length).toBe(durationBucketsSeconds.length + 1);
  expect([write.buckets[0], write.buckets[1], write.buckets.at(-1)]).toEqual([2, 1, 1]);
  expect({ bytes: write.bytes, errors: write.errors }).toEqual({ bytes: 5120, errors: 1 });
  expect(write.seconds).toBeCloseTo(60.000111, 9);
  expect(read.buckets[durationBucketsSeconds.indexOf(0.001)]).toBe(1);
  expect(flush.buckets.every((count) => count === 0)).toBe(true);
});
