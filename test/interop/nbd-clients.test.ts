import { type ExecFileException, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DiskDirectory } from '../../agent/store/disk-directory.ts';
import { FileDevice } from '../../agent/store/file-device.ts';
import { TestAuthority } from '../support/certificates.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { startTestServer, type TestServer } from '../support/nbd-test-server.ts';
import { isInstalled } from '../support/programs.ts';
import { Random } from '../support/random.ts';
import { waitFor } from '../support/wait-for.ts';

/** Real clients, made by others, against the real server. A test whose tool is not installed is skipped. */

const mebibyte = 2 ** 20;
const size = 64 * mebibyte;
const soon = { timeoutMs: 30_000 };

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a tool in its own process; the server goes on in this one. */
function run(tool: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(tool, args, { maxBuffer: 64 * mebibyte }, (error: ExecFileException | null, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

async function succeed(tool: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(tool, ...args);
  expect({ code, output: code === 0 ? '' : stdout + stderr }).toEqual({ code: 0, output: '' });
  return stdout;
}

let device: MemoryDevice;
let started: TestServer;

beforeEach(async () => {
  device = new MemoryDevice(size);
  const snapshot = new MemoryDevice(4 * mebibyte, 4096);
  snapshot.write(mebibyte, new Uint8Array(mebibyte).fill(3));
  started = await startTestServer({
    vol: { device, description: 'the live volume' },
    'vol@monday': {
      device: snapshot,
      readOnly: true,
      contexts: new Map([['qemu:dirty-bitmap:sunday', dirtyBelowOneMebibyte]]),
    },
  });
});

afterEach(() => started.stop());

function dirtyBelowOneMebibyte(offset: number, length: number) {
  const dirtyBytes = Math.max(0, Math.min(length, mebibyte - offset));
  return [
    { length: dirtyBytes, flags: 1 },
    { length: length - dirtyBytes, flags: 0 },
  ].filter((extent) => extent.length > 0);
}

/** Data with holes: random stretches at random places. */
function scatter(seed: number): void {
  const random = new Random(seed);
  for (let count = 0; count < 40; count += 1) {
    const blocks = 1 + random.below(200);
    const offset = random.below(size / 4096 - blocks) * 4096;
    device.write(offset, new Uint8Array(blocks * 4096).fill(1 + random.below(255)));
  }
}

describe.skipIf(!isInstalled('qemu-io'))('qemu-io', () => {
  const io = (exportName: string, ...commands: string[]) =>
    succeed('qemu-io', '-f', 'raw', started.uri(exportName), ...commands.flatMap((command) => ['-c', command]));

  test('writes, reads with verification, zeroes, discards, flushes', async () => {
    await io(
      'vol',
      'write -P 0xa1 0 64k',
      'write -P 0xa2 -f 1M 512',
      'write -P 0xa3 3M 17M',
      'write -z 8k 8k',
      'write -z -u 16k 4k',
      'discard 3M 1M',
      'flush',
      'read -P 0xa1 0 8k',
      'read -P 0 8k 12k',
      'read -P 0xa1 20k 44k',
      'read -P 0xa2 1M 512',
      'read -P 0 3M 1M',
      'read -P 0xa3 4M 16M',
    );
    expect(device.bytes[mebibyte]).toBe(0xa2);
    expect(device.bytes[3 * mebibyte]).toBe(0);
  });

  test('many requests at a time', async () => {
    const writes = Array.from({ length: 64 }, (_, index) => `aio_write -P ${index + 1} ${index * 128}k 128k`);
    await io('vol', ...writes, 'aio_flush', 'flush');
    for (let index = 0; index < 64; index += 1) expect(device.bytes[index * 131_072 + 77]).toBe(index + 1);
  });

  test('cannot write a snapshot', async () => {
    const outcome = await run('qemu-io', '-f', 'raw', started.uri('vol@monday'), '-c', 'write 0 4k');
    expect(outcome.code).not.toBe(0);
    await succeed('qemu-io', '-r', '-f', 'raw', started.uri('vol@monday'), '-c', 'read -P 3 1M 1M');
  });

  test('is told the reason when there is no such export', async () => {
    const outcome = await run('qemu-io', '-f', 'raw', started.uri('nope'), '-c', 'read 0 4k');
    expect(outcome.stderr).toContain('there is no export "nope"');
  });
});

describe.skipIf(!isInstalled('qemu-img'))('qemu-img', () => {
  test('info, map and a copy that is identical', async () => {
    scatter(1);
    const copy = join(started.directory, 'copy.qcow2');
    const info = JSON.parse(await succeed('qemu-img', 'info', '--output=json', started.uri('vol')));
    expect(info['virtual-size']).toBe(size);
    await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', started.uri('vol'), copy);
    await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', started.uri('vol'), copy);
    const map: { start: number; length: number; zero: boolean }[] = JSON.parse(
      await succeed('qemu-img', 'map', '--output=json', '-f', 'raw', started.uri('vol')),
    );
    for (const { start, length, zero } of map) {
      expect(device.bytes.subarray(start, start + length).every((byte) => byte === 0)).toBe(zero);
    }
    expect(map.length).toBeGreaterThan(10);
    const last = map.at(-1);
    expect((last?.start ?? 0) + (last?.length ?? 0)).toBe(size);
  });

  test('convert into a volume, which holds data already', async () => {
    scatter(2);
    const source = join(started.directory, 'source.raw');
    await succeed('qemu-img', 'create', '-f', 'raw', source, String(size));
    await succeed('qemu-io', '-f', 'raw', source, '-c', 'write -P 9 5M 3M', '-c', 'write -P 8 40M 1M');
    await succeed('qemu-img', 'convert', '-n', '-W', '-f', 'raw', '-O', 'raw', source, started.uri('vol'));
    await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, started.uri('vol'));
  });

  test('reads what has changed since an older snapshot', async () => {
    const options = { driver: 'nbd', export: 'vol@monday', 'x-dirty-bitmap': 'qemu:dirty-bitmap:sunday' };
    const spec = { ...options, server: { type: 'unix', path: started.path } };
    const map: { start: number; length: number; data: boolean }[] = JSON.parse(
      await succeed('qemu-img', 'map', '--output=json', '--image-opts', imageOptions(spec)),
    );
    // qemu shows dirty stretches as not being data.
    expect(map.filter(({ data }) => !data)).toMatchObject([{ start: 0, length: mebibyte }]);
  });
});

/** `a=b,c.d=e` of nested settings, as --image-opts takes them. */
function imageOptions(settings: Record<string, string | Record<string, string>>): string {
  return Object.entries(settings)
    .flatMap(([key, value]) =>
      typeof value === 'string'
        ? [`${key}=${value}`]
        : Object.entries(value).map(([name, text]) => `${key}.${name}=${text}`),
    )
    .join(',');
}

describe.skipIf(!isInstalled('nbdinfo'))('nbdinfo', () => {
  test('lists every export with what it is', async () => {
    const uri = `nbd+unix:///?socket=${started.path}`;
    const { exports } = JSON.parse(await succeed('nbdinfo', '--list', '--json', uri));
    expect(exports).toMatchObject([
      {
        'export-name': 'vol',
        'export-size': size,
        is_read_only: false,
        can_fua: true,
        can_multi_conn: true,
        contexts: ['base:allocation'],
        block_size_minimum: 512,
        block_size_preferred: 4096,
        block_size_maximum: 32 * mebibyte,
      },
      {
        'export-name': 'vol@monday',
        is_read_only: true,
        block_size_minimum: 4096,
        contexts: ['base:allocation', 'qemu:dirty-bitmap:sunday'],
      },
    ]);
  });

  test('shows the description', async () => {
    const { exports } = JSON.parse(await succeed('nbdinfo', '--json', started.uri('vol')));
    expect(exports).toMatchObject([{ description: 'the live volume' }]);
  });

  test('maps allocation, and what has changed', async () => {
    const map = JSON.parse(await succeed('nbdinfo', '--map', '--json', started.uri('vol@monday')));
    expect(map).toMatchObject([
      { offset: 0, length: mebibyte, type: 3 },
      { offset: mebibyte, length: mebibyte, type: 0 },
      { offset: 2 * mebibyte, length: 2 * mebibyte, type: 3 },
    ]);
    const changed = await succeed('nbdinfo', '--map=qemu:dirty-bitmap:sunday', '--json', started.uri('vol@monday'));
    expect(JSON.parse(changed)).toMatchObject([
      { offset: 0, length: mebibyte, type: 1 },
      { offset: mebibyte, length: 3 * mebibyte, type: 0 },
    ]);
  });

  test('over TLS, with the certificate of a client', async () => {
    const authority = await TestAuthority.create();
    const certificate = await authority.issue({ role: 'node', name: 'node-a' });
    const secure = await startTestServer({ vol: { device } }, { tls: () => ({ ca: authority.ca, ...certificate }) });
    const directory = join(secure.directory, 'pki');
    await mkdir(directory);
    await writeFile(join(directory, 'ca-cert.pem'), authority.ca);
    await writeFile(join(directory, 'client-cert.pem'), certificate.cert);
    await writeFile(join(directory, 'client-key.pem'), certificate.key);
    const uri = `nbds+unix://localhost/vol?socket=${secure.path}&tls-certificates=${directory}`;
    expect(JSON.parse(await succeed('nbdinfo', '--json', uri))).toMatchObject({ TLS: true });
    await secure.stop();
    await authority.remove();
  });
});

describe.skipIf(!isInstalled('nbdcopy'))('nbdcopy', () => {
  test('out and in again, over several connections, holes included', async () => {
    scatter(3);
    const original = Buffer.from(device.bytes);
    const file = join(started.directory, 'copy.raw');
    await succeed('nbdcopy', '--connections=4', '--requests=16', started.uri('vol'), file);
    device.write(0, new Uint8Array(size).fill(0xdd));
    await succeed('nbdcopy', '--connections=4', '--requests=16', '--flush', file, started.uri('vol'));
    expect(original.equals(device.bytes)).toBe(true);
  });
});

describe.skipIf(!isInstalled('fio') || !isInstalled('qemu-img'))('over a file', () => {
  test.each(['sparse', 'thick'] as const)(
    '%s: verified by fio, copied and compared by qemu-img',
    async (provisioning) => {
      const directory = await DiskDirectory.open(join(started.directory, 'store'));
      const space = provisioning === 'thick' ? 'allocate' : 'sparse';
      const file = await directory.open('volume', { create: { size, space } });
      const fileDevice = new FileDevice({ file, blockSize: 512, provisioning });
      const served = await startTestServer({ vol: { device: fileDevice } });
      const uri = served.uri('vol');
      const job = ['--name=job', '--ioengine=nbd', `--uri=${uri}`, '--bs=4k', '--iodepth=32', '--size=64m'];
      await succeed('fio', ...job, '--rw=randwrite', '--io_size=12m', '--verify=crc32c', '--fsync=128');
      await succeed(
        'qemu-io',
        '-f',
        'raw',
        uri,
        '-c',
        'discard 8M 8M',
        '-c',
        'write -z 20M 1M',
        '-c',
        'read -P 0 8M 8M',
      );
      const copy = join(served.directory, 'copy.raw');
      await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, copy);
      await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, copy);
      await succeed('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', join(directory.path, 'volume'), copy);
      await served.stop();
      await fileDevice.close();
    },
  );
});

describe.skipIf(!isInstalled('fio'))('fio', () => {
  const fio = (...args: string[]) =>
    succeed('fio', '--name=job', '--ioengine=nbd', `--uri=${started.uri('vol')}`, ...args);

  test.each(['512', '4k', '4608', '128k'])('random writes of %s, read back and verified', async (blockSize) => {
    const amount = ['--size=64m', `--io_size=${blockSize === '512' ? '4m' : '48m'}`];
    await fio('--rw=randwrite', `--bs=${blockSize}`, '--iodepth=32', '--verify=crc32c', '--fsync=64', ...amount);
  });

  test('a mixture of reads, writes, and trims', async () => {
    const mixture = ['--rw=randrw', '--bsrange=512-256k', '--blockalign=512', '--iodepth=32'];
    await fio(...mixture, '--size=64m', '--io_size=96m', '--verify=crc32c');
    await fio('--rw=randtrim', '--bs=64k', '--iodepth=16', '--size=64m', '--io_size=16m');
  });
});

describe.skipIf(!isInstalled('nbdkit'))('nbdkit', () => {
  test('in the middle, as our client and as a server', async () => {
    scatter(4);
    const through = join(started.directory, 'through.sock');
    const options = ['--exit-with-parent', 'nbd', `socket=${started.path}`, 'export=vol'];
    const nbdkit = spawn('nbdkit', ['-f', '-U', through, ...options], { stdio: 'ignore' });
    await waitFor(() => existsSync(through), soon);
    const client = await NbdTestClient.connect(through, { contexts: ['base:allocation'] });
    await client.write(5 * mebibyte, Buffer.alloc(mebibyte, 'middle'), 1);
    await client.writeZeroes(6 * mebibyte, mebibyte);
    await client.trim(7 * mebibyte, mebibyte);
    await client.flush();
    for (let offset = 0; offset < size; offset += 4 * mebibyte) {
      const expected = device.bytes.subarray(offset, offset + 4 * mebibyte);
      expect((await client.read(offset, 4 * mebibyte)).equals(expected)).toBe(true);
    }
    expect(device.bytes[6 * mebibyte]).toBe(0);
    expect((await client.blockStatus(5 * mebibyte, 2 * mebibyte)).get('base:allocation')?.[0]?.flags).toBe(0);
    await client.disconnect();
    await started.server.disconnect(() => true);
    expect(started.exports.openCount).toBe(0);
    nbdkit.kill();
  });
});
