import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Frame, FrameParser, framesOf, HeaderEncoder } from '../../../agent/mirror/frame-codec.ts';
import { frameTypes, headerBytes, maxPayloadBytes } from '../../../agent/mirror/protocol.ts';

function encode(frames: readonly Omit<Frame, never>[]): Buffer {
  const headers = new HeaderEncoder();
  return Buffer.concat(
    frames.flatMap(({ type, flags, payload, sequence, offset, length }) => [
      headers.encode(type, flags, payload.length, sequence, offset, length),
      payload,
    ]),
  );
}

const frames: Frame[] = [
  { type: frameTypes.write, flags: 1, sequence: 1, offset: 2 ** 45 + 512, length: 0, payload: Buffer.alloc(700, 3) },
  { type: frameTypes.flush, flags: 0, sequence: 2 ** 40, offset: 0, length: 0, payload: Buffer.alloc(0) },
  { type: frameTypes.zero, flags: 2, sequence: 3, offset: 4096, length: 2 ** 30, payload: Buffer.alloc(0) },
  { type: frameTypes.welcome, flags: 0, sequence: 0, offset: 0, length: 0, payload: Buffer.from('{}') },
];

/** Without the memory that payloads lie in. */
function withoutMemory(parsed: readonly Frame[]): Frame[] {
  return parsed.map(({ slab: _slab, payload, ...frame }) => ({ ...frame, payload: Buffer.from(payload) }));
}

function writeOf(byte: number): Frame {
  const payload = Buffer.alloc(100_000, byte);
  return { type: frameTypes.write, flags: 0, sequence: 1, offset: 0, length: 0, payload };
}

/** Puts bytes where the parser wants them, as a socket does, so many at a time. */
function receive(parser: FrameParser, bytes: Buffer, atATime = bytes.length): Frame[] {
  const parsed: Frame[] = [];
  let at = 0;
  while (at < bytes.length) {
    const room = parser.room();
    const part = bytes.subarray(at, at + Math.min(atATime, room.length));
    room.set(part);
    parsed.push(...parser.filled(part.length));
    at += part.length;
  }
  return parsed;
}

describe('the parser', () => {
  test('gives back what was encoded, wherever the stream is split', () => {
    const stream = encode(frames);
    for (let at = 0; at <= stream.length; at += 1) {
      const parser = new FrameParser();
      const parsed = [...parser.push(stream.subarray(0, at)), ...parser.push(stream.subarray(at))];
      expect(withoutMemory(parsed)).toEqual(frames);
    }
  });

  test('byte by byte, too', () => {
    const parser = new FrameParser();
    const parsed = [...encode(frames)].flatMap((byte) => parser.push(Uint8Array.of(byte)));
    expect(withoutMemory(parsed)).toEqual(frames);
  });

  test('a payload stays as it is until its frame is released, whatever comes meanwhile', () => {
    const parser = new FrameParser();
    const [kept] = receive(parser, encode([writeOf(1)]));
    for (let byte = 2; byte < 40; byte += 1) {
      for (const frame of receive(parser, encode([writeOf(byte)]))) {
        expect(frame.payload.equals(writeOf(byte).payload)).toBe(true);
        parser.release(frame);
      }
    }
    expect(kept?.payload.equals(writeOf(1).payload)).toBe(true);
  });

  test('memory of released frames is used again', () => {
    const parser = new FrameParser();
    const memories = new Set<ArrayBufferLike>();
    for (let sent = 0; sent < 100; sent += 1) {
      for (const frame of receive(parser, encode([writeOf(sent)]))) {
        memories.add(frame.payload.buffer);
        parser.release(frame);
      }
    }
    expect(memories.size).toBeLessThanOrEqual(2);
  });

  test('received where it says, the same', () => {
    const parser = new FrameParser();
    const parsed = receive(parser, encode(frames), 100);
    expect(withoutMemory(parsed)).toEqual(frames);
  });

  test('a whole buffer of frames is cut without copying, and one that ends within a frame refused', () => {
    const stream = encode(frames);
    const parsed = framesOf(stream);
    expect(withoutMemory(parsed)).toEqual(frames);
    expect(parsed[0]?.payload.buffer).toBe(stream.buffer);
    expect(() => framesOf(stream.subarray(0, stream.length - 1))).toThrow(/end within one/);
    expect(() => framesOf(stream.subarray(0, headerBytes - 1))).toThrow(/end within one/);
  });

  test('a payload of absurd length is refused before anything is allocated', () => {
    const header = new HeaderEncoder().encode(frameTypes.write, 0, maxPayloadBytes + 1);
    expect(() => new FrameParser().push(header)).toThrow(/payload: expected at most/);
  });

  test('any garbage is refused or waits for more, and never anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 * headerBytes }), (garbage) => {
        try {
          for (const frame of new FrameParser().push(garbage))
            expect(frame.payload.length).toBeLessThanOrEqual(garbage.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'Protocol' });
        }
      }),
    );
  });
});
