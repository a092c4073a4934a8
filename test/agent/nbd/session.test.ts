import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { BackgroundPace } from '../../../agent/nbd/background-pace.ts';
import type { NbdExport } from '../../../agent/nbd/exports.ts';
import { defaultLimits, type NbdLimits } from '../../../agent/nbd/limits.ts';
import { NbdSession } from '../../../agent/nbd/session.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { HeldDevice } from '../../support/held-device.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { MemoryConnection } from '../../support/memory-connection.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { clientFlags, goData, optionMessage, requestMessage } from '../../support/nbd-messages.ts';

const block = 4096;
const exportSize = 1024 * block;

interface SetupOptions {
  readonly limits?: Partial<NbdLimits>;
  /** Answers the opening of the export. */
  readonly open?: () => Promise<void>;
  readonly background?: BackgroundPace;
}

/** A session with a client that is the test, on a device whose operations the test can hold. */
function setUp({ limits = {}, open = async () => {}, background }: SetupOptions = {}) {
  const clock = new ManualClock();
  const connection = new MemoryConnection();
  const device = new HeldDevice(new MemoryDevice(exportSize));
  const events: string[] = [];
  const opened: NbdExport = {
    device,
    readOnly: false,
    multiConn: true,
    ...(background ? { background } : {}),
    contexts: new Map(),
    async close() {
      events.push('export closed');
    },
  };
  const session = new NbdSession(connection, {
    exports: {
      list: () => ['vol'],
      async open() {
        events.push('export opened');
        await open();
        return opened;
      },
    },
    limits: { ...defaultLimits, ...limits },
    clock,
    log: silentLog,
    client: {},
    defer: (callback) => process.nextTick(callback),
    ended: () => events.push('ended'),
  });
  const negotiate = async () => {
    connection.deliver(Buffer.concat([clientFlags(), optionMessage(8), optionMessage(7, goData('vol'))]));
    await nextTurn();
    connection.takeSent();
  };
  return { clock, connection, device, events, session, negotiate };
}

const write = (cookie: number, at = 0, blocks = 1) =>
  requestMessage({ type: 1, cookie: BigInt(cookie), offset: at * block, data: Buffer.alloc(blocks * block, cookie) });
const read = (cookie: number, at = 0, blocks = 1) =>
  requestMessage({ type: 0, cookie: BigInt(cookie), offset: at * block, length: blocks * block });
const flush = (cookie: number) => requestMessage({ type: 3, cookie: BigInt(cookie) });
const disconnect = requestMessage({ type: 2 });

/** The cookies and errors of the replies, in order; chunks that are not the last of their reply are left out. */
function repliesIn(bytes: Buffer): { cookie: number; error: number }[] {
  const replies: { cookie: number; error: number }[] = [];
  let at = 0;
  while (at < bytes.length) {
    const cookie = Number(bytes.readBigUInt64BE(at + 8));
    if (bytes.readUInt32BE(at) === 0x67446698) {
      replies.push({ cookie, error: bytes.readUInt32BE(at + 4) });
      at += 16;
      continue;
    }
    expect(bytes.readUInt32BE(at)).toBe(0x668e33ef);
    const isError = bytes.readUInt16BE(at + 6) >= 0x8000;
    if (bytes.readUInt16BE(at + 4) & 1) replies.push({ cookie, error: isError ? bytes.readUInt32BE(at + 20) : 0 });
    at += 20 + bytes.readUInt32BE(at + 16);
  }
  return replies;
}

const cookiesIn = (bytes: Buffer) => repliesIn(bytes).map(({ cookie }) => cookie);

describe('execution', () => {
  test('all requests of one received buffer are executed in order and answered in one piece', async () => {
    const { connection, device, negotiate } = setUp();
    await negotiate();
    connection.pieceCounts.length = 0;
    connection.deliver(Buffer.concat([write(1), write(2, 1), read(3, 0, 2), flush(4)]));
    expect(cookiesIn(connection.takeSent())).toEqual([1, 2, 3, 4]);
    expect(connection.pieceCounts).toEqual([1]);
    expect(device.calls).toEqual(['write 0+4096', 'write 4096+4096', 'read 0+8192', 'flush']);
  });

  test('a background export reads a little in each turn of the event loop, and all in the end', async () => {
    const background = new BackgroundPace({ bytesPerTurn: 2 * block, nextTurn: setImmediate });
    const { connection, negotiate } = setUp({ background });
    await negotiate();
    connection.deliver(Buffer.concat([read(1), read(2), read(3, 0, 5), read(4), read(5)]));
    const turns: number[][] = [];
    for (let answered = 0; answered < 5; await nextTurn()) {
      const cookies = cookiesIn(connection.takeSent());
      answered += cookies.length;
      if (cookies.length > 0) turns.push(cookies);
    }
    expect(turns).toEqual([[1, 2], [3], [4, 5]]);
  });

  test('a request that never completes holds up nothing else', async () => {
    const { connection, device, negotiate } = setUp();
    await negotiate();
    device.holds.add('write');
    connection.deliver(Buffer.concat([write(1), read(2), flush(3)]));
    expect(cookiesIn(connection.takeSent())).toEqual([2, 3]);
    connection.deliver(read(4));
    expect(cookiesIn(connection.takeSent())).toEqual([4]);
    device.completeAll();
    await nextTurn();
    expect(repliesIn(connection.takeSent())).toEqual([{ cookie: 1, error: 0 }]);
  });

  test('completions that come together are answered together', async () => {
    const { connection, device, negotiate } = setUp();
    await negotiate();
    device.holds.add('write').add('read');
    connection.deliver(Buffer.concat([write(1), read(2), write(3), read(4), write(5)]));
    connection.pieceCounts.length = 0;
    for (const held of device.held.splice(0, 4)) held.complete();
    await nextTurn();
    expect(connection.pieceCounts).toHaveLength(1);
    expect(cookiesIn(connection.takeSent()).sort()).toEqual([1, 2, 3, 4]);
  });

  test('a read that completes later carries its data', async () => {
    const { connection, device, negotiate } = setUp();
    await negotiate();
    connection.deliver(Buffer.concat([write(7, 3)]));
    connection.takeSent();
    device.holds.add('read');
    connection.deliver(Buffer.concat([read(1, 3), read(2, 4)]));
    expect(connection.takeSent()).toHaveLength(0);
    device.held[1]?.complete();
    device.held[0]?.complete();
    await nextTurn();
    const sent = connection.takeSent();
    expect(cookiesIn(sent)).toEqual([2, 1]);
    expect(sent.subarray(-block)).toEqual(Buffer.alloc(block, 7));
  });

  test('failures at once and later become errors of their request only', async () => {
    const { connection, device, negotiate } = setUp();
    await negotiate();
    device.holds.add('write').add('read');
    connection.deliver(Buffer.concat([write(1), write(2), read(3), read(4)]));
    const failures = [
      new UnderstudyError('NoSpace', 'full'),
      new UnderstudyError('Fenced', 'fenced'),
      new Error('odd'),
    ];
    device.held.splice(0).forEach((held, index) => {
      const failure = failures[index];
      if (failure) held.fail(failure);
      else held.complete();
    });
    await nextTurn();
    const replies = repliesIn(connection.takeSent()).sort((a, b) => a.cookie - b.cookie);
    expect(replies.map(({ error }) => error)).toEqual([28, 5, 5, 0]);
    expect(connection.isClosed).toBe(false);
  });
});

describe('limits', () => {
  test('stops reading at the limit of requests, and goes on below it', async () => {
    const { connection, device, negotiate } = setUp({ limits: { maxRequestsInFlight: 3 } });
    await negotiate();
    device.holds.add('write');
    connection.deliver(Buffer.concat([1, 2, 3, 4, 5].map((cookie) => write(cookie))));
    expect(device.held).toHaveLength(3);
    expect(connection.isPaused).toBe(true);
    device.held.shift()?.complete();
    await nextTurn();
    expect(device.held).toHaveLength(3);
    expect(connection.isPaused).toBe(true);
    device.completeAll();
    await nextTurn();
    expect(connection.isPaused).toBe(false);
    device.completeAll();
    await nextTurn();
    expect(cookiesIn(connection.takeSent())).toEqual([1, 2, 3, 4, 5]);
  });

  test('stops reading at the limit of bytes', async () => {
    const { connection, device, negotiate } = setUp({ limits: { maxBytesInFlight: 2 * block } });
    await negotiate();
    device.holds.add('write');
    connection.deliver(Buffer.concat([write(1), write(2), write(3)]));
    expect(device.held).toHaveLength(2);
    expect(connection.isPaused).toBe(true);
  });

  test('one request larger than the limit of bytes is still executed', async () => {
    const { connection, negotiate } = setUp({ limits: { maxBytesInFlight: block } });
    await negotiate();
    connection.deliver(Buffer.concat([write(1, 0, 8), read(2, 0, 8)]));
    expect(cookiesIn(connection.takeSent())).toEqual([1, 2]);
  });

  test('a client that does not take its replies is not read from', async () => {
    const { connection, device, negotiate } = setUp({ limits: { maxBytesInFlight: 64 * block } });
    await negotiate();
    connection.stuck = true;
    connection.deliver(Buffer.concat(Array.from({ length: 1000 }, (_, index) => read(index, 0, 8))));
    expect(connection.isPaused).toBe(true);
    expect(connection.queuedBytes).toBeLessThan(2 * 64 * block);
    const before = device.calls.length;
    expect(before).toBeLessThan(20);
    connection.drain();
    expect(device.calls).toHaveLength(1000);
    expect(connection.isPaused).toBe(false);
    expect(cookiesIn(connection.takeSent())).toHaveLength(1000);
  });
});

describe('the end', () => {
  test('DISC answers what is under way, then closes', async () => {
    const { connection, device, events, negotiate } = setUp();
    await negotiate();
    device.holds.add('write');
    connection.deliver(Buffer.concat([write(1), disconnect, read(2)]));
    expect(connection.isClosed).toBe(false);
    device.completeAll();
    await nextTurn();
    expect(cookiesIn(connection.takeSent())).toEqual([1]);
    expect(connection.isClosed).toBe(true);
    expect(events).toEqual(['export opened', 'export closed', 'ended']);
  });

  test('DISC with a request that never completes closes after a bounded time, the export only after the request', async () => {
    const { clock, connection, device, events, negotiate } = setUp();
    await negotiate();
    device.holds.add('write');
    connection.deliver(Buffer.concat([write(1), disconnect]));
    clock.advance(defaultLimits.drainMs);
    expect(connection.isClosed).toBe(true);
    await nextTurn();
    expect(events).toEqual(['export opened']);
    device.completeAll();
    await nextTurn();
    expect(connection.takeSent()).toHaveLength(0);
    expect(events).toEqual(['export opened', 'export closed', 'ended']);
  });

  test('after a lost connection requests complete in the device, without replies, and then the export is closed', async () => {
    const { connection, device, events, negotiate, session } = setUp();
    await negotiate();
    device.holds.add('write').add('read');
    connection.deliver(Buffer.concat([write(9, 5), read(2), write(3)]));
    connection.destroy(new Error('reset'));
    await nextTurn();
    expect(session.requestsInFlight).toBe(3);
    device.held.pop()?.fail(new Error('late'));
    device.completeAll();
    await nextTurn();
    expect(connection.takeSent()).toHaveLength(0);
    expect(events).toEqual(['export opened', 'export closed', 'ended']);
  });

  test('drain: nothing new is executed, what is under way is answered', async () => {
    const { connection, device, negotiate, session } = setUp();
    await negotiate();
    device.holds.add('write');
    connection.deliver(write(1));
    const drained = session.drain();
    expect(connection.isPaused).toBe(true);
    device.completeAll();
    await drained;
    expect(cookiesIn(connection.takeSent())).toEqual([1]);
    expect(connection.isClosed).toBe(true);
  });

  test('drain waits a bounded time for a client that does not take its replies', async () => {
    const { clock, connection, negotiate, session } = setUp();
    await negotiate();
    connection.stuck = true;
    connection.deliver(read(1));
    const drained = session.drain();
    expect(connection.isClosed).toBe(false);
    clock.advance(defaultLimits.drainMs);
    await drained;
    expect(connection.isClosed).toBe(true);
  });

  test('garbage ends the connection after the requests before it have been answered', async () => {
    const { connection, events, negotiate } = setUp();
    await negotiate();
    connection.deliver(Buffer.concat([write(1), Buffer.from('this is no request, as its magic shows')]));
    expect(cookiesIn(connection.takeSent())).toEqual([1]);
    expect(connection.isClosed).toBe(true);
    await nextTurn();
    expect(events).toEqual(['export opened', 'export closed', 'ended']);
  });

  test('no timer is left when it is over', async () => {
    const { clock, connection, negotiate } = setUp();
    await negotiate();
    connection.deliver(disconnect);
    expect(connection.isClosed).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('handshake', () => {
  test('a client that says nothing is cut off', () => {
    const { clock, connection, events } = setUp();
    clock.advance(defaultLimits.handshakeMs - 1);
    expect(connection.isClosed).toBe(false);
    clock.advance(1);
    expect(connection.closeReason).toMatchObject({ code: 'Timeout' });
    expect(events).toEqual([]);
  });

  test('after the handshake a silent client is left alone', async () => {
    const { clock, connection, negotiate } = setUp();
    await negotiate();
    clock.advance(100 * defaultLimits.handshakeMs);
    expect(connection.isClosed).toBe(false);
  });

  test('an export that opens after its client has gone is closed again', async () => {
    const opening = Promise.withResolvers<void>();
    const { connection, events } = setUp({ open: () => opening.promise });
    connection.deliver(Buffer.concat([clientFlags(), optionMessage(7, goData('vol'))]));
    expect(connection.isPaused).toBe(true);
    connection.destroy();
    await nextTurn();
    expect(events).toEqual(['export opened']);
    opening.resolve();
    await nextTurn();
    expect(events).toEqual(['export opened', 'export closed', 'ended']);
  });

  test('INFO and GO of one export open it once; another name closes it first', async () => {
    const { connection, events } = setUp();
    connection.deliver(Buffer.concat([clientFlags(), optionMessage(6, goData('other'))]));
    await nextTurn();
    connection.deliver(optionMessage(6, goData('vol')));
    await nextTurn();
    connection.deliver(optionMessage(7, goData('vol')));
    await nextTurn();
    expect(events).toEqual(['export opened', 'export closed', 'export opened']);
  });
});
