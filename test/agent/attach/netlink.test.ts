import { describe, expect, test } from 'vitest';
import {
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  textOf,
  uint16Of,
  uint32Of,
} from '../../../agent/attach/netlink.ts';

/** The byte order of messages is the machine's; the expected bytes here are those of a little-endian one. */
const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe.runIf(isLittleEndian)('requests', () => {
  test('have a netlink header, a generic one, and padded attributes', () => {
    const request = encodeRequest({
      family: 0x1c,
      command: 3,
      version: 1,
      sequence: 7,
      attributes: [
        { type: 1, u32: 5 },
        { type: 2, u64: 0x1_0000_0002n },
        { type: 10, text: 'ab' },
      ],
    });
    expect(Buffer.from(request)).toEqual(
      Buffer.from(
        bytes(
          '30000000 1c00 0500 07000000 00000000' +
            '03 01 0000' +
            '0800 0100 05000000' +
            '0c00 0200 0200000001000000' +
            '0700 0a00 616200 00',
        ),
      ),
    );
  });

  test('nest attributes, and say so', () => {
    const attributes = [{ type: 7, nested: [{ type: 1, nested: [{ type: 1, u32: 9 }] }] }];
    const request = encodeRequest({ family: 0x1c, command: 1, version: 1, sequence: 1, attributes });
    expect(Buffer.from(request.subarray(20))).toEqual(Buffer.from(bytes('1000 0780 0c00 0180 0800 0100 09000000')));
  });
});

test('an attribute that is too long for its length field is refused', () => {
  const attributes = [{ type: 10, text: 'x'.repeat(0x10000) }];
  expect(() => encodeRequest({ family: 1, command: 1, version: 1, sequence: 1, attributes })).toThrow('too long');
});

describe('what was encoded', () => {
  const request = encodeRequest({
    family: 0x1c,
    command: 4,
    version: 1,
    sequence: 42,
    attributes: [
      { type: 1, u32: 0xffff_fffe },
      { type: 2, text: 'nbd' },
      { type: 7, nested: [{ type: 3, u32: 1 }] },
    ],
  });

  test('is decoded', () => {
    const [message, ...more] = decodeMessages(request);
    expect(more).toEqual([]);
    expect(message).toMatchObject({ kind: 'message', sequence: 42, family: 0x1c, command: 4 });
    const attributes = message?.kind === 'message' ? message.attributes : new Map();
    expect(uint32Of(attributes, 1)).toBe(0xffff_fffe);
    expect(uint16Of(attributes, 1)).toBeTypeOf('number');
    expect(textOf(attributes, 2)).toBe('nbd');
    expect(uint32Of(decodeAttributes(attributes.get(7) ?? new Uint8Array()), 3)).toBe(1);
    expect(uint32Of(attributes, 99)).toBeUndefined();
    expect(textOf(attributes, 99)).toBeUndefined();
  });

  test('is refused when it is cut short anywhere', () => {
    for (let length = 1; length < request.length; length += 1) {
      expect(() => decodeMessages(request.subarray(0, length)), `${length} bytes`).toThrow();
    }
  });

  test('is refused when a length in it points past the end', () => {
    const long = request.slice();
    new Uint16Array(long.buffer, 20, 1)[0] = 0x7fff;
    expect(() => decodeMessages(long)).toThrow('attribute');
    const short = request.slice();
    new Uint16Array(short.buffer, 20, 1)[0] = 3;
    expect(() => decodeMessages(short)).toThrow('attribute');
  });

  test('a number that is too short is refused', () => {
    expect(() => uint32Of(new Map([[1, new Uint8Array(2)]]), 1)).toThrow('attribute 1');
  });
});

/** As the kernel answers: an answer and an acknowledgement in one datagram. */
test('results are told from messages, success from failure', () => {
  const result = (errno: number) => {
    const datagram = new Uint8Array(36);
    new Uint32Array(datagram.buffer)[0] = 36;
    new Uint16Array(datagram.buffer)[2] = 2;
    new Uint32Array(datagram.buffer)[2] = 42;
    new Int32Array(datagram.buffer)[4] = -errno;
    return datagram;
  };
  expect(decodeMessages(result(0))).toEqual([{ kind: 'result', sequence: 42, errno: 0 }]);
  expect(decodeMessages(result(22))).toEqual([{ kind: 'result', sequence: 42, errno: 22 }]);
  const request = encodeRequest({ family: 0x1c, command: 1, version: 1, sequence: 42, attributes: [] });
  const both = Buffer.concat([request, result(0)]);
  expect(decodeMessages(both).map(({ kind }) => kind)).toEqual(['message', 'result']);
});

test('messages of netlink itself that carry nothing are left out', () => {
  const datagram = new Uint8Array(20);
  new Uint32Array(datagram.buffer)[0] = 20;
  new Uint16Array(datagram.buffer)[2] = 3;
  expect(decodeMessages(datagram)).toEqual([]);
});
