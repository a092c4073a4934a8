import { afterEach, beforeEach, expect, test } from 'vitest';
import { ByteChannel } from '../../support/byte-channel.ts';
import { HeldDevice } from '../../support/held-device.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { NbdTestClient } from '../../support/nbd-client.ts';
import { clientFlags, goData, metaContextData, optionMessage, requestMessage } from '../../support/nbd-messages.ts';
import { startTestServer, type TestServer } from '../../support/nbd-test-server.ts';
import { waitFor } from '../../support/wait-for.ts';

const mebibyte = 2 ** 20;
const soon = { timeoutMs: 30_000 };

let device: HeldDevice;
let started: TestServer;

beforeEach(async () => {
  device = new HeldDevice(new MemoryDevice(4 * mebibyte));
  started = await startTestServer({ vol: { device } }, { limits: { drainMs: 200 } });
});

afterEach(async () => {
  device.completeAll();
  await started.stop();
});

/** After whatever happened, all is forgotten and a well-behaved client is served. */
async function expectUnharmed(): Promise<void> {
  await waitFor(() => started.server.connections === 0, soon);
  expect(started.exports.openCount).toBe(0);
  const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  await client.write(0, Buffer.alloc(4096, 5));
  expect(await client.read(0, 4096)).toEqual(Buffer.alloc(4096, 5));
  await client.disconnect();
  await waitFor(() => started.server.connections === 0, soon);
}

/** Everything a client says in a valid conversation. */
const conversation = Buffer.concat([
  clientFlags(),
  optionMessage(8),
  optionMessage(10, metaContextData('vol', ['base:allocation'])),
  optionMessage(7, goData('vol', [1, 3])),
  requestMessage({ type: 1, cookie: 1n, offset: 512, data: Buffer.alloc(1024, 1) }),
  requestMessage({ type: 0, cookie: 2n, offset: 0, length: 4096 }),
  requestMessage({ type: 7, cookie: 3n, length: 4096 }),
  requestMessage({ type: 6, cookie: 4n, length: 512 }),
  requestMessage({ type: 3, cookie: 5n }),
  requestMessage({ type: 2 }),
]);

test('a conversation that is cut off at any byte', async () => {
  const cuts = Array.from({ length: conversation.length + 1 }, (_, at) => at);
  const step = 16;
  for (let first = 0; first < cuts.length; first += step) {
    await Promise.all(
      cuts.slice(first, first + step).map(async (at) => {
        const channel = await ByteChannel.connect(started.path);
        channel.send(conversation.subarray(0, at));
        channel.socket.end();
        await channel.receiveAll();
      }),
    );
  }
  await expectUnharmed();
});

test('a conversation of which any byte is wrong', async () => {
  const step = 16;
  for (let first = 0; first < conversation.length; first += step) {
    await Promise.all(
      Array.from({ length: Math.min(step, conversation.length - first) }, async (_, index) => {
        const wrong = Buffer.from(conversation);
        const at = first + index;
        wrong.writeUInt8(wrong.readUInt8(at) ^ 0xff, at);
        const channel = await ByteChannel.connect(started.path);
        channel.send(wrong);
        channel.socket.end();
        await channel.receiveAll();
      }),
    );
  }
  await expectUnharmed();
});

test('garbage from the first byte on', async () => {
  for (const byte of [0x00, 0xff, 0x49]) {
    const channel = await ByteChannel.connect(started.path);
    channel.send(Buffer.alloc(mebibyte, byte));
    await channel.receiveAll();
  }
  await expectUnharmed();
});

test('a client that disconnects in the middle of a payload', async () => {
  const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  const cutOff = requestMessage({ type: 1, length: mebibyte, data: Buffer.alloc(1000) });
  await new Promise<void>((resolve) => client.channel.socket.write(cutOff, () => resolve()));
  client.close();
  await waitFor(() => started.server.connections === 0, soon);
  expect(device.calls.filter((call) => call.startsWith('write'))).toEqual([]);
  await expectUnharmed();
});

test('payloads that are announced and never come cost no memory', async () => {
  const before = process.memoryUsage().rss;
  const clients = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
      client.channel.send(requestMessage({ type: 1, length: 4 * mebibyte, data: Buffer.alloc(100) }));
      return client;
    }),
  );
  const other = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  await other.read(0, 512);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * mebibyte);
  for (const client of [...clients, other]) client.close();
  await expectUnharmed();
});

test('an absurd length is refused at once, and its payload skipped', async () => {
  const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  const refused = client.request({ type: 1, length: 200 * mebibyte, data: Buffer.alloc(0) });
  expect((await refused).error).toBe(22);
  const before = process.memoryUsage().rss;
  const chunk = Buffer.alloc(mebibyte, 7);
  for (let sent = 0; sent < 200; sent += 1) {
    await new Promise<void>((resolve) => client.channel.socket.write(chunk, () => resolve()));
  }
  expect((await client.read(0, 512)).equals(Buffer.alloc(512))).toBe(true);
  expect(process.memoryUsage().rss - before).toBeLessThan(150 * mebibyte);
  expect(device.calls).toEqual(['read 0+512']);
  await client.disconnect();
  await expectUnharmed();
});

test('suspended writes are taken up to the limit, and the rest is left in the socket', async () => {
  const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  device.holds.add('write');
  const writes = Array.from({ length: 2000 }, (_, index) => client.write((index % 64) * 65_536, Buffer.alloc(65_536)));
  const settled = Promise.allSettled(writes);
  await waitFor(() => device.held.length >= 256, soon);
  expect(device.held).toHaveLength(256);
  device.holds.delete('write');
  device.completeAll();
  const results = await settled;
  expect(results.every(({ status }) => status === 'fulfilled')).toBe(true);
  await client.disconnect();
  await expectUnharmed();
});

test('a client that asks for much and reads nothing', async () => {
  const client = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  await client.write(0, Buffer.alloc(4 * mebibyte, 1));
  client.channel.socket.pause();
  device.calls.length = 0;
  const reads = Array.from({ length: 1000 }, (_, index) =>
    requestMessage({ type: 0, cookie: BigInt(index), length: mebibyte }),
  );
  client.channel.send(Buffer.concat(reads));
  await waitFor(() => device.calls.length >= 60, soon);
  const other = await NbdTestClient.connect(started.path, { exportName: 'vol' });
  await other.read(0, 4096);
  expect(device.calls.length).toBeLessThan(100);
  other.close();
  client.close();
  await expectUnharmed();
});

test('a device and a provider with defects', async () => {
  const broken = {
    size: mebibyte,
    blockSize: 512,
    read: () => Promise.reject('no error object'),
    write: () => {
      throw null;
    },
    writeZeroes: () => undefined,
    trim: () => undefined,
    flush: () => Promise.reject(undefined),
    extents: () => [],
    close: async () => {},
  };
  const other = await startTestServer({ broken: { device: broken } });
  const options = { exportName: 'broken', contexts: ['base:allocation'] };
  const client = await NbdTestClient.connect(other.path, options);
  expect((await client.request({ type: 0, length: 512 })).error).toBe(5);
  expect((await client.request({ type: 1, data: Buffer.alloc(512) })).error).toBe(5);
  expect((await client.request({ type: 3 })).error).toBe(5);
  expect((await client.request({ type: 7, length: 512 })).error).toBe(5);
  await client.trim(0, 512);
  await client.disconnect();
  await other.stop();
});
