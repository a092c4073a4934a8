import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockMap } from '../../../agent/mirror/block-map.ts';

const block = 4096;
const range = fc.record({ offset: fc.nat(3 * 32 * 1024 * block), length: fc.integer({ min: 1, max: 40 * block }) });
const command = fc.record({ kind: fc.constantFrom('add', 'remove'), range });

test('behaves as a set of block numbers', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
      const map = new BlockMap(block);
      const twin = new Set<number>();
      for (const {
        kind,
        range: { offset, length },
      } of commands) {
        if (kind === 'add') {
          map.add({ offset, length });
          for (let at = Math.floor(offset / block); at * block < offset + length; at += 1) twin.add(at);
        } else {
          map.removeCovered({ offset, length });
          for (let at = Math.ceil(offset / block); (at + 1) * block <= offset + length; at += 1) twin.delete(at);
        }
      }
      const listed = [...map.ranges(8 * block)].flatMap(({ offset, length }) =>
        Array.from({ length: length / block }, (_, index) => offset / block + index),
      );
      expect(listed).toEqual([...twin].sort((a, b) => a - b));
      expect(map.count).toBe(twin.size);
    }),
  );
});
