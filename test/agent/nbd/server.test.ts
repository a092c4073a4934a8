import { chmod, lstat, readdir, rename, symlink, writeFile } from 'node:fs/promises';
import { connect as connectSocket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NbdServer } from '../../../agent/nbd/server.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { ByteChannel } from '../../support/byte-channel.ts';
import { HeldDevice } from '../../support/held-device.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { NbdTestClient } from '../../support/nbd-client.ts';
import { startTestServer, TestExports, type TestServer } from '../../support/nbd-test-server.ts';
import { waitFor } from '../../support/wait-for.ts';

const mebibyte = 2 ** 20;
const size = 40 * mebibyte;
const flag = { fua: 1, noHole: 2, dontFragment: 4, requestOne: 8, fastZero: 16 };
const soon = { timeoutMs: 20_000 };

let device: HeldDevice;
let started: TestServer;
const clients: NbdTestClient[] = [];

beforeEach(async () => {
  device = new HeldDevice(new MemoryDevice(size));
  started = await startTestServer(
    {
      vol: {
        device,
        description: 'the live volume',
        contexts: new Map([
          ['qemu:dirty-bitmap:monday', (offset, length) => [{ length, flags: offset < mebibyte ? 1 : 0 }]],
        ]),
      },
      'vol@monday': { device: new MemoryDevice(mebibyte, 4096), readOnly: true, multiConn: false },
    },
    { limits: { drainMs: 300 } },
  );
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  device.completeAll();
  await started.stop();
});

async function connect(exportName = 'vol', options = {}): Promise<NbdTestClient> {
  const client = await NbdTestClient.connect(started.path, { exportName, ...options });
  clients.push(client);
  return client;
}

/** Bytes that differ from place to place; 251 is a prime, so no block is like its neighbour. */
const pattern = (length: number, seed: number) =>
  Buffer.alloc(
    length,
    Uint8Array.from({ length: 251 }, (_, at) => (at * seed) % 251),
  );

describe.each([{ structured: true }, { structured: false }])('with %j', (options) => {
  test('reads back what was written, in sizes from a block to the maximum', async () => {
    const client = await connect('vol', options);
    let offset = 512;
    for (const length of [512, 4096, 65_536, 100_352, 300_032, mebibyte, 32 * mebibyte]) {
      const data = pattern(length, length % 97);
      await client.write(offset, data);
      expect((await client.read(offset, length)).equals(data)).toBe(true);
      offset += length;
    }
    expect((await client.read(0, 512)).equals(Buffer.alloc(512))).toBe(true);
    await client.disconnect();
  });

  test('many requests at a time', async () => {
    const client = await connect('vol', options);
    const offsets = Array.from({ length: 500 }, (_, index) => index * 8192);
    await Promise.all(offsets.map((offset) => client.write(offset, pattern(8192, offset % 89))));
    const found = await Promise.all(offsets.map((offset) => client.read(offset, 8192)));
    found.forEach((data, index) => {
      expect(data.equals(pattern(8192, (offsets[index] ?? 0) % 89))).toBe(true);
    });
  });

  test('errors leave the connection usable', async () => {
    const client = await connect('vol', options);
    const errorOf = async (fields: Parameters<NbdTestClient['request']>[0]) => (await client.request(fields)).error;
    expect(await errorOf({ type: 0, offset: size, length: 512 })).toBe(22);
    expect(await errorOf({ type: 1, offset: size, data: Buffer.alloc(512) })).toBe(28);
    expect(await errorOf({ type: 0, offset: 1, length: 512 })).toBe(22);
    expect(await errorOf({ type: 0, offset: 0, length: 33 * mebibyte })).toBe(22);
    expect(await errorOf({ type: 1, offset: 0, data: Buffer.alloc(33 * mebibyte) })).toBe(22);
    expect(await errorOf({ type: 6, length: 512, flags: flag.fastZero })).toBe(95);
    expect(await errorOf({ type: 99, length: 512 })).toBe(22);
    expect(await client.read(0, 512)).toEqual(Buffer.alloc(512));
  });
});

describe('commands', () => {
  test('flags and commands reach the device', async () => {
    const client = await connect();
    await client.write(0, Buffer.alloc(512), flag.fua);
    await client.writeZeroes(512, 512, flag.noHole);
    await client.writeZeroes(512, 512, flag.fua);
    await client.trim(1024, 512);
    await client.trim(1024, 512, flag.fua);
    await client.flush();
    expect((await client.request({ type: 5, offset: 0, length: 512 })).error).toBe(0);
    expect(device.calls).toEqual([
      'write 0+512 fua',
      'writeZeroes 512+512 keep',
      'writeZeroes 512+512 fua',
      'trim 1024+512',
      'trim 1024+512',
      'flush',
      'flush',
    ]);
  });

  test('a trim with FUA is complete only after a flush that follows it', async () => {
    const client = await connect();
    device.holds.add('trim').add('flush');
    const trimmed = client.trim(0, 512, flag.fua);
    await waitFor(() => device.held.length === 1, soon);
    device.completeAll();
    await waitFor(() => device.held.length === 1, soon);
    expect(device.calls).toEqual(['trim 0+512', 'flush']);
    device.completeAll();
    await trimmed;
  });

  test('large reads leave out what is certainly zero', async () => {
    const client = await connect();
    await client.write(mebibyte, pattern(65_536, 7));
    const all = await client.request({ type: 0, offset: 0, length: 4 * mebibyte });
    expect(all.chunks.map(({ type }) => type)).toEqual([2, 1, 2]);
    const data = await client.read(0, 4 * mebibyte);
    expect(data.subarray(mebibyte, mebibyte + 65_536).equals(pattern(65_536, 7))).toBe(true);
    expect((await client.request({ type: 0, offset: 2 * mebibyte, length: mebibyte })).chunks).toHaveLength(1);
    const whole = await client.request({ type: 0, offset: 0, length: 4 * mebibyte, flags: flag.dontFragment });
    expect(whole.chunks.map(({ type }) => type)).toEqual([1]);
    expect(whole.chunks[0]?.payload.subarray(8).equals(data)).toBe(true);
  });

  test('a sparse read fails as a whole, after all its parts have completed', async () => {
    const client = await connect();
    await client.write(0, Buffer.alloc(65_536, 1));
    await client.write(131_072, Buffer.alloc(65_536, 1));
    device.holds.add('read');
    const reply = client.request({ type: 0, offset: 0, length: 262_144 });
    await waitFor(() => device.held.length === 2, soon);
    device.held[0]?.fail(new UnderstudyError('Corrupt', 'checksum'));
    device.held[1]?.complete();
    expect(await reply).toMatchObject({ error: 5, message: 'checksum' });
  });

  test('block status of all selected contexts, and of one extent', async () => {
    const client = await connect('vol', { contexts: ['base:allocation', 'qemu:dirty-bitmap:monday'] });
    await client.write(4096, Buffer.alloc(8192, 1));
    expect(await client.blockStatus(0, mebibyte)).toEqual(
      new Map([
        [
          'base:allocation',
          [
            { length: 4096, flags: 3 },
            { length: 8192, flags: 0 },
            { length: mebibyte - 12_288, flags: 3 },
          ],
        ],
        ['qemu:dirty-bitmap:monday', [{ length: mebibyte, flags: 1 }]],
      ]),
    );
    const one = await client.blockStatus(2048, 4096, flag.requestOne);
    expect(one.get('base:allocation')).toEqual([{ length: 2048, flags: 3 }]);
    expect(one.get('qemu:dirty-bitmap:monday')).toEqual([{ length: 4096, flags: 1 }]);
  });

  test('a read-only export refuses writes and says so', async () => {
    const client = await connect('vol@monday');
    expect(client.flags & 2).toBe(2);
    expect(client.flags & 0x100).toBe(0);
    expect(client.blockSizes).toEqual({ minimum: 4096, preferred: 4096, maximum: 32 * mebibyte });
    await expect(client.write(0, Buffer.alloc(4096))).rejects.toMatchObject({ errno: 1 });
    await expect(client.trim(0, 4096)).rejects.toMatchObject({ errno: 1 });
    await expect(client.read(512, 512)).rejects.toMatchObject({ errno: 22 });
    await client.flush();
  });

  test('an export that cannot be opened is refused with the reason', async () => {
    await expect(connect('nope')).rejects.toThrow('there is no export "nope"');
  });
});

describe('connections', () => {
  test('are counted until their exports are closed', async () => {
    const [first, second] = [await connect(), await connect('vol@monday')];
    expect(started.server.connections).toBe(2);
    expect(started.exports.openCount).toBe(2);
    await first.disconnect();
    second.close();
    await waitFor(() => started.server.connections === 0, soon);
    expect(started.exports.openCount).toBe(0);
  });

  test('disconnect ends those of one export, and answers what is under way', async () => {
    const [live, snapshot] = [await connect(), await connect('vol@monday')];
    device.holds.add('write');
    const written = live.write(0, Buffer.alloc(512, 1));
    await waitFor(() => device.held.length === 1, soon);
    const disconnected = started.server.disconnect((name) => name === 'vol');
    device.completeAll();
    await written;
    expect(await disconnected).toEqual({ unfinishedRequests: 0 });
    expect(started.exports.openCount).toBe(1);
    await expect(live.read(0, 512)).rejects.toThrow('closed');
    await snapshot.read(0, 4096);
  });

  test('disconnect does not wait for ever for a suspended write', async () => {
    const client = await connect();
    device.holds.add('write');
    const written = client.write(0, Buffer.alloc(512, 1));
    const failed = expect(written).rejects.toThrow('closed');
    await waitFor(() => device.held.length === 1, soon);
    expect(await started.server.disconnect(() => true)).toEqual({ unfinishedRequests: 1 });
    await failed;
    expect(started.exports.openCount).toBe(1);
    device.completeAll();
    await waitFor(() => started.exports.openCount === 0, soon);
    expect(started.server.connections).toBe(0);
  });

  test('beyond the limit are closed at once, and others go on', async () => {
    const small = await startTestServer({ vol: { device } }, { limits: { maxConnections: 1 } });
    const first = await NbdTestClient.connect(small.path, { exportName: 'vol' });
    await expect(NbdTestClient.connect(small.path, { exportName: 'vol' })).rejects.toThrow('closed');
    await first.read(0, 512);
    first.close();
    await small.stop();
  });

  test('a socket accepted elsewhere can be served', async () => {
    const server = new NbdServer({ log: silentLog, exports: new TestExports({ vol: { device } }) });
    const listener = createServer((socket) => server.serve(socket));
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    const socket = connectSocket(address.port, '127.0.0.1');
    const client = await NbdTestClient.over(new ByteChannel(socket), { exportName: 'vol' });
    await client.write(0, pattern(4096, 3));
    expect((await client.read(0, 4096)).equals(pattern(4096, 3))).toBe(true);
    await client.disconnect();
    await server.close();
    listener.close();
  });
});

describe('the socket file', () => {
  test('is for root only, and alone in its directory', async () => {
    expect((await lstat(started.path)).mode & 0o777).toBe(0o600);
    expect(await readdir(started.directory)).toEqual(['nbd.sock']);
  });

  test('is removed when the server closes', async () => {
    await started.server.close();
    expect(await readdir(started.directory)).toEqual([]);
  });

  const listen = (path: string) =>
    NbdServer.listen({ log: silentLog, exports: new TestExports({ vol: { device } }), path });

  test('a stale one is replaced', async () => {
    const stale = createServer();
    const path = join(started.directory, 'stale.sock');
    await new Promise<void>((resolve) => stale.listen(`${path}.bound`, resolve));
    await rename(`${path}.bound`, path);
    await new Promise((resolve) => stale.close(resolve));
    expect((await lstat(path)).isSocket()).toBe(true);
    const server = await listen(path);
    const client = await NbdTestClient.connect(path, { exportName: 'vol' });
    await client.disconnect();
    await server.close();
  });

  test('one that another server answers on is not', async () => {
    await expect(listen(started.path)).rejects.toMatchObject({ code: 'InUse' });
    await connect();
  });

  test('what is no socket is not replaced', async () => {
    const path = join(started.directory, 'file');
    await writeFile(path, 'precious');
    await expect(listen(path)).rejects.toMatchObject({ code: 'Conflict' });
    await symlink('/dev/null', join(started.directory, 'link'));
    await expect(listen(join(started.directory, 'link'))).rejects.toMatchObject({ code: 'Conflict' });
  });

  test('a path that does not fit is refused before anything is made', async () => {
    const path = join(started.directory, 'x'.repeat(120));
    await expect(listen(path)).rejects.toMatchObject({ code: 'Invalid' });
  });

  test('one that a newer server has put there stays when the older one closes', async () => {
    await chmod(started.directory, 0o700);
    await rename(started.path, `${started.path}.old`);
    const newer = await listen(started.path);
    await started.server.close();
    expect(await readdir(started.directory)).toContain('nbd.sock');
    await newer.close();
  });
});
