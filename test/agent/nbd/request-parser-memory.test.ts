import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { errno } from '../../../agent/nbd/errno.ts';
import { type NbdRequest, RequestParser } from '../../../agent/nbd/request-parser.ts';
import { requestMessage } from '../../support/nbd-messages.ts';

const kibibyte = 1024;
const slabBytes = 512 * kibibyte;

/** Receives a stream as a socket would: at most so much at a time, and never more than there is room for. */
function receive(parser: RequestParser, stream: Uint8Array, most: number): number {
  const room = parser.room();
  const part = stream.subarray(0, Math.min(most, room.length));
  room.set(part);
  parser.filled(part.length);
  return part.length;
}

/** Every payload says which it is, everywhere, so that a byte of another one is noticed wherever it is. */
const payload = (index: number, length: number) => Buffer.alloc(length, (index % 251) + 1);

describe('RequestParser that receives into its own memory', () => {
  test('payloads are whole until they are released, wherever the stream is split and in whatever order they complete', () => {
    const length = fc.oneof(
      fc.integer({ min: 0, max: 8192 }),
      fc.constantFrom(64 * kibibyte, 128 * kibibyte, slabBytes, slabBytes + 1),
    );
    const writes = fc.array(fc.record({ length, refused: fc.boolean() }), { minLength: 1, maxLength: 16 });
    const splits = fc.array(fc.integer({ min: 1000, max: 300_000 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(writes, splits, fc.integer({ min: 0, max: 12 }), (messages, sizes, keptAtMost) => {
        const parser = new RequestParser(({ flags }) => (flags === 1 ? errno.einval : errno.none));
        const stream = Buffer.concat(
          messages.map(({ length: bytes, refused }, index) =>
            requestMessage({ type: 1, cookie: BigInt(index), flags: refused ? 1 : 0, data: payload(index, bytes) }),
          ),
        );
        const kept: NbdRequest[] = [];
        let found = 0;
        const release = (request: NbdRequest) => {
          const { cookieLow, length: bytes, data, error } = request;
          // Not toEqual: that looks at every byte by itself.
          if (error === errno.none) expect(data && payload(cookieLow, bytes).equals(data)).toBe(true);
          else expect(data).toBeUndefined();
          parser.release(request);
        };
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          at += receive(parser, stream.subarray(at), sizes[turn % sizes.length] ?? 1);
          for (let request = parser.next(); request; request = parser.next()) {
            expect(request.cookieLow).toBe(found);
            found += 1;
            kept.push(request);
            // The one in the middle, so that they end in another order.
            if (kept.length > keptAtMost) release(kept.splice(kept.length >> 1, 1)[0] as NbdRequest);
          }
        }
        expect(found).toBe(messages.length);
        for (const request of kept) release(request);
      }),
      { numRuns: 40 },
    );
  });
});
