import { expect, test } from 'vitest';
import { SlotAllocator } from '../../../agent/cow/slot-allocator.ts';

test('a released slot is free only when the commit that freed it has ended', () => {
  const slots = new SlotAllocator(2);
  expect([slots.allocate(), slots.allocate(), slots.allocate()]).toEqual([0, 1, undefined]);
  slots.release(0);
  expect(slots.releasing).toBe(1);
  const released = slots.takeReleased();
  slots.release(1);
  expect(slots.allocate()).toBeUndefined();
  slots.committed(released);
  expect([slots.allocate(), slots.allocate()]).toEqual([0, undefined]);
  slots.committed(slots.takeReleased());
  expect(slots.allocate()).toBe(1);
});

test('a slot that is being read waits for all its readers', () => {
  const slots = new SlotAllocator(1);
  slots.allocate();
  slots.pin(0);
  slots.pin(0);
  slots.release(0);
  slots.committed(slots.takeReleased());
  slots.unpin(0);
  expect(slots.allocate()).toBeUndefined();
  slots.unpin(0);
  expect(slots.allocate()).toBe(0);
  expect(() => slots.unpin(0)).toThrow();
});

test('after opening, the gaps between used slots are free, used ones before fresh ones', () => {
  const slots = new SlotAllocator(6, [1, 3]);
  expect(slots.available).toBe(4);
  expect([0, 0, 0, 0, 0].map(() => slots.allocate())).toEqual([0, 2, 4, 5, undefined]);
});

test('a smaller limit keeps slots above it in use until they are released, and never gives them out again', () => {
  const slots = new SlotAllocator(2, [0, 1, 5]);
  expect(slots.allocate()).toBeUndefined();
  slots.release(5);
  slots.release(0);
  slots.committed(slots.takeReleased());
  expect([slots.allocate(), slots.allocate()]).toEqual([0, undefined]);
});

test('a disk without room for fresh slots leaves the used ones', () => {
  const slots = new SlotAllocator(4);
  slots.allocate();
  slots.forbidFresh();
  expect(slots.allocate()).toBeUndefined();
  slots.giveBack(0);
  expect(slots.allocate()).toBe(0);
  slots.raiseLimit(4);
  expect(slots.allocate()).toBe(1);
});
