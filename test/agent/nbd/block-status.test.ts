import { describe, expect, test } from 'vitest';
import { allocationQuery, collectStatus } from '../../../agent/nbd/block-status.ts';
import type { ContextQuery } from '../../../agent/nbd/exports.ts';
import { MemoryDevice } from '../../support/memory-device.ts';

const gibibyte = 2 ** 30;

/** Counts the queries, and how far they went. */
function counted(query: ContextQuery) {
  const asked: { offset: number; length: number }[] = [];
  const counting: ContextQuery = (offset, length) => {
    asked.push({ offset, length });
    return query(offset, length);
  };
  return { asked, counting };
}

const striped: ContextQuery = (offset, length) =>
  Array.from({ length: length / 4096 }, (_, index) => ({ length: 4096, flags: (offset / 4096 + index) % 2 }));

const totalAsked = (asked: { length: number }[]) => asked.reduce((sum, { length }) => sum + length, 0);

describe('collectStatus', () => {
  test('a uniform range of any size takes few queries and is one extent', () => {
    const { asked, counting } = counted((_, length) => [{ length, flags: 3 }]);
    expect(collectStatus(counting, { offset: 4096, length: 4 * gibibyte - 4096 }, 'many')).toEqual([
      { length: 4 * gibibyte - 4096, flags: 3 },
    ]);
    expect(asked.length).toBeLessThan(10);
    expect(asked[1]?.offset).toBe(4096 + (asked[0]?.length ?? 0));
  });

  test('a fragmented range is answered in part', () => {
    const { asked, counting } = counted(striped);
    const found = collectStatus(counting, { offset: 0, length: 4 * gibibyte }, 'many');
    expect(totalAsked(asked)).toBeLessThan(2 * found.length * 4096);
    expect(found.length).toBeGreaterThanOrEqual(4096);
    expect(found.every(({ length, flags }, index) => length === 4096 && flags === index % 2)).toBe(true);
  });

  test('one extent of a fragmented range costs little, and is whole however long it is', () => {
    const range = { offset: 0, length: 4 * gibibyte - 4096 };
    const { asked, counting } = counted(striped);
    expect(collectStatus(counting, range, 'one')).toEqual([{ length: 4096, flags: 0 }]);
    expect(totalAsked(asked)).toBeLessThan(2 ** 20);
    const zeroUpToOneGibibyte: ContextQuery = (offset, length) => {
      const zeroBytes = Math.max(0, Math.min(length, gibibyte - offset));
      const extents = [
        { length: zeroBytes, flags: 3 },
        { length: length - zeroBytes, flags: 0 },
      ];
      return extents.filter((extent) => extent.length > 0);
    };
    expect(collectStatus(zeroUpToOneGibibyte, range, 'one')).toEqual([{ length: gibibyte, flags: 3 }]);
  });

  test('never covers more than was asked for', () => {
    expect(collectStatus(striped, { offset: 8192, length: 12_288 }, 'many')).toEqual([
      { length: 4096, flags: 0 },
      { length: 4096, flags: 1 },
      { length: 4096, flags: 0 },
    ]);
  });

  test('a query that does not cover its range is a defect, not an answer', () => {
    expect(() =>
      collectStatus((_, length) => [{ length: length - 512, flags: 0 }], { offset: 0, length: 4096 }, 'many'),
    ).toThrow('cover');
  });
});

test('base:allocation says hole and zero', () => {
  const device = new MemoryDevice(64 * 1024);
  device.write(4096, new Uint8Array(512).fill(1));
  device.writeZeroes(8192, 4096, { keepAllocated: true });
  expect(collectStatus(allocationQuery(device), { offset: 0, length: 16_384 }, 'many')).toEqual([
    { length: 4096, flags: 3 },
    { length: 512, flags: 0 },
    { length: 3584, flags: 3 },
    { length: 4096, flags: 0 },
    { length: 4096, flags: 3 },
  ]);
});
