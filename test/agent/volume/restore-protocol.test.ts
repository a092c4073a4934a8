import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  answerShape,
  checked,
  encodeData,
  encodeMessage,
  type RestoreFrame,
  RestoreFrames,
  requestShape,
} from '../../../agent/volume/restore-protocol.ts';

const range = { offset: 4096, length: 512 };
const stream = Buffer.concat([
  ...encodeMessage({ type: 'read', snapshot: 's', range }),
  ...encodeData(Buffer.alloc(70_000, 7)),
  ...encodeData(new Uint8Array(0)),
  ...encodeMessage({ type: 'ranges', ranges: [range] }),
]);

test('frames are the same wherever the stream is cut', () => {
  const cuts = fc.array(fc.nat(stream.length), { maxLength: 20 });
  fc.assert(
    fc.property(cuts, (offsets) => {
      const frames = new RestoreFrames();
      const ends = [...offsets.sort((a, b) => a - b), stream.length];
      const got: RestoreFrame[] = ends.flatMap((end, index) => frames.push(stream.subarray(ends[index - 1] ?? 0, end)));
      expect(got.map((frame) => (frame.kind === 'data' ? frame.data.length : frame.kind))).toEqual([
        'json',
        70_000,
        0,
        'json',
      ]);
      expect(checked(requestShape, got[0]?.kind === 'json' && got[0].value)).toEqual({
        type: 'read',
        snapshot: 's',
        range,
      });
      expect(checked(answerShape, got[3]?.kind === 'json' && got[3].value)).toEqual({
        type: 'ranges',
        ranges: [range],
      });
    }),
  );
});

test.each([
  ['a length beyond all reason', [0xff, 0xff, 0xff, 0xff, 1], /4294967295 bytes/],
  ['an unknown kind', [0, 0, 0, 1, 9], /kind 9/],
  ['what is no JSON', [0, 0, 0, 1, 0, 0x7b], /no JSON/],
])('%s is refused', (_what, bytes, reason) => {
  expect(() => new RestoreFrames().push(Buffer.from(bytes))).toThrow(reason);
});

test('what is asked is checked', () => {
  for (const wrong of [
    { type: 'erase' },
    { type: 'read', snapshot: 's', range: { offset: -1, length: 1 } },
    { type: 'mark', marker: { name: 'r' } },
    undefined,
  ]) {
    expect(() => checked(requestShape, wrong)).toThrow(/for a restore/);
  }
});
