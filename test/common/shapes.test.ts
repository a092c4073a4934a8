import { expect, test } from 'vitest';
import * as z from '../../common/shapes.ts';

const shape = z.object({
  name: z.string(),
  epoch: z.number().int().positive(),
  from: z.number().min(0).optional(),
  mode: z.enum(['a', 'b']),
  block: z.union([z.literal(512), z.literal(4096)]),
  parts: z.array(z.object({ ok: z.boolean() })),
});
const good = { name: 'n', epoch: 1, mode: 'a', block: 512, parts: [{ ok: true }] };

test('what fits is taken over, without keys that are not known', () => {
  expect(shape.parse({ ...good, more: 1, from: 0 })).toEqual({ ...good, from: 0 });
  expect(shape.parse(good)).not.toHaveProperty('from');
});

test.each<[object, RegExp]>([
  [{ name: 1 }, /^name: expected a string, found 1$/],
  [{ name: undefined }, /^name: expected a string, found nothing$/],
  [{ epoch: 0 }, /^epoch: expected a number above 0/],
  [{ epoch: 1.5 }, /^epoch: expected an integer/],
  [{ epoch: 2 ** 60 }, /^epoch: expected an integer/],
  [{ epoch: '1' }, /^epoch: expected a number/],
  [{ from: -1 }, /^from: expected a number of at least 0/],
  [{ from: null }, /^from: expected a number, found null/],
  [{ mode: 'c' }, /^mode: expected one of a, b, found "c"/],
  [{ block: 1024 }, /^block: /],
  [{ parts: {} }, /^parts: expected a list/],
  [{ parts: [{ ok: true }, { ok: 1 }] }, /^parts\[1\].ok: expected true or false/],
])('what does not fit is named: %j', (change, message) => {
  expect(() => shape.parse({ ...good, ...change })).toThrow(message);
  expect(shape.safeParse({ ...good, ...change })).toMatchObject({ success: false });
});

test.each([[], null, 'text', 1, undefined])('%j is no object, and a prototype gives no keys', (value) => {
  expect(() => shape.parse(value)).toThrow(/expected an object/);
  expect(() => z.object({ toString: z.string() }).parse({})).toThrow(/found nothing/);
});
