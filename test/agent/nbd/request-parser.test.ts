import { describe, expect, test } from 'vitest';
import { errno } from '../../../agent/nbd/errno.ts';
import { type NbdRequest, type RequestCheck, RequestParser } from '../../../agent/nbd/request-parser.ts';
import { requestMessage } from '../../support/nbd-messages.ts';

const accept: RequestCheck = () => errno.none;

function parseAll(parser: RequestParser, ...chunks: Uint8Array[]): NbdRequest[] {
  const requests: NbdRequest[] = [];
  for (const chunk of chunks) {
    parser.push(chunk);
    for (let request = parser.next(); request; request = parser.next()) requests.push(request);
  }
  return requests;
}

const summary = ({ type, flags, offset, length, cookieHigh, cookieLow, error, data }: NbdRequest) => ({
  ...{ type, flags, offset, length, cookieHigh, cookieLow, error },
  data: data && Buffer.from(data).toString('hex'),
});

const conversation = Buffer.concat([
  requestMessage({ type: 0, cookie: 0x1122334455667788n, offset: 0x1_0000_0200, length: 4096 }),
  requestMessage({ type: 1, flags: 1, cookie: 2n, offset: 512, data: Buffer.from('payload of a write') }),
  requestMessage({ type: 1, cookie: 3n, offset: 99, data: Buffer.from('refused') }),
  requestMessage({ type: 3, cookie: 4n }),
  requestMessage({ type: 1, cookie: 5n, data: Buffer.alloc(0) }),
  requestMessage({ type: 2 }),
]);
const refuseOffset99: RequestCheck = ({ offset }) => (offset === 99 ? errno.einval : errno.none);

describe('RequestParser', () => {
  const whole = parseAll(new RequestParser(refuseOffset99), conversation).map(summary);

  test('reads every field', () => {
    expect(whole).toMatchObject([
      { type: 0, flags: 0, offset: 0x1_0000_0200, length: 4096, cookieHigh: 0x11223344, cookieLow: 0x55667788 },
      { type: 1, flags: 1, offset: 512, cookieLow: 2, data: Buffer.from('payload of a write').toString('hex') },
      { type: 1, offset: 99, error: errno.einval, data: undefined },
      { type: 3, cookieLow: 4 },
      { type: 1, cookieLow: 5, data: '' },
      { type: 2 },
    ]);
  });

  test('does not depend on where the stream is split', () => {
    for (let first = 0; first <= conversation.length; first += 1) {
      for (const second of [first, Math.min(conversation.length, first + 7)]) {
        const parts = [
          conversation.subarray(0, first),
          conversation.subarray(first, second),
          conversation.subarray(second),
        ];
        expect(parseAll(new RequestParser(refuseOffset99), ...parts).map(summary)).toEqual(whole);
      }
    }
  });

  test('does not depend on the stream coming byte by byte', () => {
    const bytes = [...conversation].map((byte) => Uint8Array.of(byte));
    expect(parseAll(new RequestParser(refuseOffset99), ...bytes).map(summary)).toEqual(whole);
  });

  test('takes what was pushed ahead, in order', () => {
    const parser = new RequestParser(refuseOffset99);
    for (let at = 0; at < conversation.length; at += 5) parser.push(conversation.subarray(at, at + 5));
    expect(parseAll(parser, new Uint8Array(0)).map(summary)).toEqual(whole);
  });

  test('a payload is independent of the bytes that were pushed', () => {
    const received = requestMessage({ type: 1, data: Buffer.alloc(4096, 7) });
    const [request] = parseAll(new RequestParser(accept), received.subarray(0, 1000), received.subarray(1000));
    received.fill(0);
    expect(request?.data).toEqual(Buffer.alloc(4096, 7));
  });

  test('a refused payload of any length is skipped without being kept, and answered before it has come', () => {
    const parser = new RequestParser(() => errno.einval);
    const header = requestMessage({ type: 1, length: 0xffff_ffff });
    expect(parseAll(parser, header)).toMatchObject([{ length: 0xffff_ffff, error: errno.einval, data: undefined }]);
    const chunk = new Uint8Array(1 << 24);
    for (let skipped = 0; skipped < 0xffff_ffff; skipped += chunk.length) {
      expect(parseAll(parser, chunk.subarray(0, Math.min(chunk.length, 0xffff_ffff - skipped)))).toEqual([]);
    }
    expect(parseAll(parser, requestMessage({ type: 3, cookie: 9n }))).toMatchObject([{ type: 3, cookieLow: 9 }]);
  });

  test('an offset above 2^53 stays above every size', () => {
    const [request] = parseAll(new RequestParser(accept), requestMessage({ type: 0, offset: 0xffff_ffff_ffff_ffffn }));
    expect(request?.offset).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
  });

  test.each([0, 1, 27, 28])('throws Protocol for a wrong magic number behind %i bytes of another chunk', (split) => {
    const garbage = requestMessage({ type: 0 });
    garbage.writeUInt8(0, 0);
    const bytes = Buffer.concat([requestMessage({ type: 3 }), garbage]);
    const parser = new RequestParser(accept);
    expect(() => parseAll(parser, bytes.subarray(0, 28 + split), bytes.subarray(28 + split))).toThrow(
      expect.objectContaining({ code: 'Protocol' }),
    );
  });
});
