import { describe, expect, test } from 'vitest';
import { ReceiveBuffer } from '../../../agent/core/receive-buffer.ts';

const kibibyte = 1024;
const slabBytes = 512 * kibibyte;

/** Receives a stream as a socket would: at most so much at a time, and never more than there is room for. */
function receive(
  buffer: { room(): Uint8Array; filled(bytes: number): void },
  stream: Uint8Array,
  most: number,
): number {
  const room = buffer.room();
  const part = stream.subarray(0, Math.min(most, room.length));
  room.set(part);
  buffer.filled(part.length);
  return part.length;
}

/** Every payload says which it is, everywhere, so that a byte of another one is noticed wherever it is. */
const payload = (index: number, length: number) => Buffer.alloc(length, (index % 251) + 1);

describe('ReceiveBuffer', () => {
  test('is filled from its beginning again when nothing of it is in use', () => {
    const buffer = new ReceiveBuffer();
    const first = buffer.room();
    buffer.filled(100);
    buffer.release(buffer.take(100).slab);
    expect(buffer.room().byteOffset).toBe(first.byteOffset);
    expect(buffer.room().buffer).toBe(first.buffer);
  });

  test('does not touch what is in use', () => {
    const buffer = new ReceiveBuffer();
    receive(buffer, payload(1, 1000), 1000);
    const { data, slab } = buffer.take(1000);
    for (let filled = 0; filled < 3 * slabBytes; filled += buffer.availableBytes) {
      buffer.skip(buffer.availableBytes);
      receive(buffer, payload(2, slabBytes), slabBytes);
    }
    expect(data).toEqual(payload(1, 1000));
    buffer.release(slab);
  });

  test('uses slabs again, so that a stream of any length needs a few', () => {
    const buffer = new ReceiveBuffer();
    const memories = new Set<ArrayBufferLike>();
    let oldest: ReturnType<ReceiveBuffer['take']> | undefined;
    for (let round = 0; round < 100; round += 1) {
      const room = buffer.room();
      memories.add(room.buffer);
      buffer.filled(room.length);
      const taken = buffer.take(room.length);
      if (oldest) buffer.release(oldest.slab);
      oldest = taken;
    }
    expect(memories.size).toBeLessThanOrEqual(3);
  });

  test('makes room for what has to lie in one piece, and no more', () => {
    const buffer = new ReceiveBuffer();
    receive(buffer, payload(1, 100), 100);
    buffer.need(3 * slabBytes);
    const room = buffer.room();
    expect(room.length).toBe(3 * slabBytes - 100);
    buffer.filled(room.length);
    const { data, slab } = buffer.take(3 * slabBytes);
    expect(data.subarray(0, 100)).toEqual(payload(1, 100));
    buffer.release(slab);
    expect(buffer.room().length).toBe(slabBytes);
  });

  test('gives away little memory for each of many that are kept for long', () => {
    const buffer = new ReceiveBuffer();
    const memories = new Set<ArrayBufferLike>();
    for (let index = 0; index < 100; index += 1) {
      const room = buffer.room();
      memories.add(room.buffer);
      buffer.filled(room.length);
      buffer.take(4096);
      buffer.skip(buffer.availableBytes);
    }
    const bytes = [...memories].reduce((sum, memory) => sum + memory.byteLength, 0);
    expect(bytes).toBeLessThanOrEqual(8 * slabBytes + 100 * 64 * kibibyte);
  });
});
