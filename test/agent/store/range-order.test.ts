import { expect, test } from 'vitest';
import type { Completion } from '../../../agent/core/block-device.ts';
import { RangeOrder } from '../../../agent/store/range-order.ts';
import { settle } from '../../support/settle.ts';

test('only operations that conflict with one under way are held back', async () => {
  const order = new RangeOrder();
  const log: string[] = [];
  let finish = () => {};
  const at = (name: string, completion?: Completion) => () => {
    log.push(name);
    return completion;
  };
  order.run(0, 10, true, at('slow read', new Promise((resolve) => (finish = resolve))));
  expect(order.run(5, 10, true, at('read'))).toBeUndefined();
  const write = order.run(9, 1, false, at('write'));
  expect(order.run(10, 5, false, at('write beside'))).toBeUndefined();
  const behind = order.run(9, 1, true, at('read behind'));
  expect(log).toEqual(['slow read', 'read', 'write beside']);
  finish();
  await write;
  await behind;
  expect(log).toEqual(['slow read', 'read', 'write beside', 'write', 'read behind']);
  await order.drained();
});

test('one that fails holds nothing up', async () => {
  const order = new RangeOrder();
  const failing = order.run(0, 1, false, () => Promise.reject(new Error('no')));
  const next = order.run(0, 1, false, () => undefined);
  await expect(failing).rejects.toThrow('no');
  await next;
  await settle();
  expect(order.run(0, 1, false, () => undefined)).toBeUndefined();
});
