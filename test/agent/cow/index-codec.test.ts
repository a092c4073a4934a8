import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { none } from '../../../agent/cow/chunk-table.ts';
import {
  decodeFrame,
  decodeRecords,
  FrameBuilder,
  frameAlignment,
  type IndexVisitor,
  payloadOf,
  peekFrame,
} from '../../../agent/cow/index-codec.ts';
import type { SnapshotRecord } from '../../../agent/cow/snapshot-info.ts';

const word = fc.nat(0xffff_fffe);
const record: fc.Arbitrary<SnapshotRecord> = fc
  .record({
    name: fc.string({ unit: 'grapheme' }),
    takenAt: fc.string(),
    consistency: fc.constantFrom('crash' as const, 'filesystem' as const),
    internal: fc.boolean(),
    attempt: fc.option(fc.string(), { nil: undefined }),
    hooks: fc.option(fc.string(), { nil: undefined }),
  })
  .map(({ attempt, hooks, ...rest }) => ({
    ...rest,
    ...(attempt === undefined ? {} : { attempt }),
    ...(hooks === undefined ? {} : { hooks }),
  }));

const call = fc.oneof(
  fc.tuple(fc.constant('preserve' as const), word, word, word, word),
  fc.tuple(fc.constant('preserve' as const), word, word, fc.constant(none), fc.constant(0)),
  fc.tuple(fc.constant('forget' as const), word, word),
  fc.tuple(fc.constant('take' as const), word, record, fc.maxSafeNat(), fc.boolean()),
  fc.tuple(fc.constant('ready' as const), word),
  fc.tuple(fc.constant('remove' as const), word),
  fc.tuple(fc.constant('invalidate' as const), word, fc.string({ unit: 'grapheme' })),
  fc.tuple(fc.constant('nextId' as const), word),
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

function replay(calls: Call[], visitor: IndexVisitor): void {
  for (const [method, ...values] of calls) (visitor[method] as (...values: unknown[]) => void)(...values);
}

function recorder(): { calls: unknown[]; visitor: IndexVisitor } {
  const calls: unknown[] = [];
  const note =
    (method: string) =>
    (...values: unknown[]) => {
      calls.push([method, ...values]);
    };
  const visitor = {
    preserve: note('preserve'),
    forget: note('forget'),
    take: note('take'),
    ready: note('ready'),
    remove: note('remove'),
    invalidate: note('invalidate'),
    nextId: note('nextId'),
  };
  return { calls, visitor };
}

describe('frames', () => {
  test('return the records that were put in', () => {
    fc.assert(
      fc.property(fc.array(call, { maxLength: 400 }), word, word, (calls, generation, sequence) => {
        const builder = new FrameBuilder();
        replay(calls, builder);
        const frame = builder.finish(generation, sequence);
        expect(frame.byteLength % frameAlignment).toBe(0);
        expect(peekFrame(frame, generation)).toBe(frame.byteLength);
        const decoded = decodeFrame(frame, generation);
        expect(decoded).toMatchObject({ sequence, byteLength: frame.byteLength });
        const { calls: found, visitor } = recorder();
        expect(decodeRecords(decoded?.payload ?? new Uint8Array(1), visitor)).toBeUndefined();
        expect(found).toEqual(calls);
        expect(payloadOf(frame)).toEqual(decoded?.payload);
        expect(builder.payloadBytes).toBe(0);
      }),
    );
  });

  test('of another generation, cut short, or with any bit changed are none', () => {
    const builder = new FrameBuilder();
    for (let chunk = 0; chunk < 300; chunk += 1) builder.preserve(1, chunk, chunk, chunk);
    const frame = builder.finish(7, 3);
    expect(decodeFrame(frame, 8)).toBeUndefined();
    expect(decodeFrame(frame.subarray(0, 4096), 7)).toBeUndefined();
    expect(decodeFrame(new Uint8Array(0), 7)).toBeUndefined();
    fc.assert(
      fc.property(fc.nat(24 + 300 * 20 - 1), fc.nat(7), (at, bit) => {
        if (at >= 20 && at < 24) return; // reserved, yet covered by the checksum
        const damaged = Uint8Array.from(frame);
        damaged[at] = (damaged[at] as number) ^ (1 << bit);
        expect(decodeFrame(damaged, 7)).toBeUndefined();
      }),
    );
  });

  test('with an absurd length cost no memory', () => {
    const frame = Buffer.from(new FrameBuilder().finish(1, 0));
    frame.writeUInt32LE(0xffff_ffff, 12);
    expect(peekFrame(frame, 1)).toBeUndefined();
  });
});

test('records that make no sense are said to be so, and never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (payload) => {
      const result = decodeRecords(payload, recorder().visitor);
      expect(result === undefined || typeof result === 'string').toBe(true);
    }),
    { numRuns: 2000 },
  );
  expect(decodeRecords(Uint8Array.of(99, 0, 0, 0), recorder().visitor)).toContain('unknown type');
});
