import { describe, expect, test } from 'vitest';
import { errno } from '../../../agent/nbd/errno.ts';
import { ReplyWriter } from '../../../agent/nbd/reply-writer.ts';

/** A sink that copies what it is sent, as a kernel does, or only keeps the pieces, as a full pipe does. */
class TestSink {
  readonly sent: Buffer[] = [];
  readonly pieces: Uint8Array[] = [];
  full = false;
  queuedBytes = 0;

  send(...pieces: Uint8Array[]): void {
    this.pieces.push(...pieces);
    if (this.full) for (const piece of pieces) this.queuedBytes += piece.length;
    this.sent.push(Buffer.concat(pieces));
  }
}

const cookie = (cookieLow: number) => ({ cookieHigh: 0, cookieLow });

function reserveAndFill(writer: ReplyWriter, size: number, byte: number) {
  const reservation = writer.reserve(size);
  reservation.bytes.fill(byte, reservation.at, reservation.at + size);
  return reservation;
}

describe('ReplyWriter', () => {
  test('sends replies that follow on each other as one piece', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    writer.simpleReply(cookie(1), errno.none);
    writer.commit(reserveAndFill(writer, 4096, 7));
    writer.simpleReply(cookie(2), errno.eio);
    expect(writer.unsentBytes).toBe(4096 + 32);
    writer.flush();
    expect(sink.pieces).toHaveLength(1);
    expect(sink.sent[0]?.subarray(16, 16 + 4096)).toEqual(Buffer.alloc(4096, 7));
    expect(sink.sent[0]?.subarray(-16).toString('hex')).toBe('67446698' + '00000005' + '0000000000000002');
    expect(writer.unsentBytes).toBe(0);
  });

  test('sends nothing when there is nothing', () => {
    const sink = new TestSink();
    new ReplyWriter(sink).flush();
    expect(sink.sent).toEqual([]);
  });

  test('leaves out what is reserved and not committed, and sends it later', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    writer.simpleReply(cookie(1), errno.none);
    const late = reserveAndFill(writer, 100, 9);
    writer.simpleReply(cookie(2), errno.none);
    writer.flush();
    expect(sink.sent[0]).toHaveLength(32);
    writer.commit(late);
    writer.flush();
    expect(sink.sent[1]).toEqual(Buffer.alloc(100, 9));
  });

  test('an abandoned reservation is never sent', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    writer.abandon(reserveAndFill(writer, 100, 9));
    const open = reserveAndFill(writer, 100, 8);
    writer.commit(reserveAndFill(writer, 50, 7));
    writer.abandon(open);
    writer.flush();
    expect(Buffer.concat(sink.sent)).toEqual(Buffer.alloc(50, 7));
  });

  test('never reuses memory of which the sink still holds something', () => {
    const sink = new TestSink();
    sink.full = true;
    const writer = new ReplyWriter(sink);
    for (let index = 0; index < 200; index += 1) {
      writer.commit(reserveAndFill(writer, 5000, index));
      writer.flush();
    }
    sink.pieces.forEach((piece, index) => {
      expect(piece.length === 5000 && piece.every((byte) => byte === index % 256)).toBe(true);
    });
  });

  test('never reuses memory that is reserved', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    const held = Array.from({ length: 100 }, (_, index) => {
      const reservation = reserveAndFill(writer, 3000, index);
      for (let other = 0; other < 10; other += 1) writer.commit(reserveAndFill(writer, 4000, 255));
      writer.flush();
      return reservation;
    });
    sink.sent.length = 0;
    for (const reservation of held) writer.commit(reservation);
    writer.flush();
    const expected = Buffer.concat(held.map((_, index) => Buffer.alloc(3000, index)));
    expect(Buffer.concat(sink.sent).equals(expected)).toBe(true);
  });

  test('reuses its memory when the sink has taken everything', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    for (let index = 0; index < 1000; index += 1) {
      writer.commit(reserveAndFill(writer, 5000, index));
      writer.flush();
    }
    expect(new Set(sink.pieces.map((piece) => piece.buffer)).size).toBe(1);
  });

  test('sends by itself before much has gathered', () => {
    const sink = new TestSink();
    const writer = new ReplyWriter(sink);
    for (let index = 0; index < 300; index += 1) writer.commit(reserveAndFill(writer, 4096, index));
    expect(sink.sent.length).toBeGreaterThan(2);
    writer.add(Buffer.alloc(1024 * 1024));
    expect(writer.unsentBytes).toBe(0);
  });
});
