import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Frame, FrameParser, HeaderEncoder } from '../../../agent/mirror/frame-codec.ts';
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

describe('the parser', () => {
  test('gives back what was encoded, wherever the stream is split', () => {
    const stream = encode(frames);
    for (let at = 0; at <= stream.length; at += 1) {
      const parser = new FrameParser();
      const parsed = [...parser.push(stream.subarray(0, at)), ...parser.push(stream.subarray(at))];
      expect(parsed).toEqual(frames);
    }
  });

  test('byte by byte, too', () => {
    const parser = new FrameParser();
    const parsed = [...encode(frames)].flatMap((byte) => parser.push(Uint8Array.of(byte)));
    expect(parsed).toEqual(frames);
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
