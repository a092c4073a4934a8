import { type ExecFileException, execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RemoteExports } from '../../agent/nbd/export-access.ts';
import { NbdGateway } from '../../agent/nbd/gateway.ts';
import { NbdServer } from '../../agent/nbd/server.ts';
import { systemClock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import type { PeerIdentity } from '../../common/peer-identity.ts';
import { ByteChannel } from '../support/byte-channel.ts';
import { TestAuthority } from '../support/certificates.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { clientFlags, goData, optionMessage } from '../support/nbd-messages.ts';
import { TestExports } from '../support/nbd-test-server.ts';
import { isInstalled } from '../support/programs.ts';
import { waitFor } from '../support/wait-for.ts';

/** The NBD port of a node with two volumes, and real clients of it, over TLS. */

const mebibyte = 2 ** 20;
const size = 8 * mebibyte;

let folder: string;
let authority: TestAuthority;
let live: MemoryDevice;
let monday: MemoryDevice;
let servers: NbdServer[];
let exportsOfA: TestExports;
const gateways: NbdGateway[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gateway-'));
  authority = await TestAuthority.create();
  live = new MemoryDevice(size);
  monday = new MemoryDevice(size);
  for (let at = 0; at < size; at += 4096) monday.write(at, Buffer.alloc(4096, 1 + ((at / 4096) % 255)));
  exportsOfA = new TestExports({ a: { device: live }, 'a@monday': { device: monday, readOnly: true } });
  const exportsOfB = new TestExports({ b: { device: new MemoryDevice(size) } });
  const serve = (volume: string, exports: TestExports) =>
    NbdServer.listen({ log: silentLog, exports, path: join(folder, `${volume}.sock`) });
  servers = [await serve('a', exportsOfA), await serve('b', exportsOfB)];
});

afterEach(async () => {
  for (const gateway of gateways.splice(0)) await gateway.close();
  for (const server of servers) await server.close();
  await authority.remove();
  await rm(folder, { recursive: true, force: true });
});

async function open(exports: RemoteExports, secure = true): Promise<NbdGateway> {
  const certificate = await authority.issue({ role: 'node', name: 'node-a' });
  const gateway = await NbdGateway.listen({
    listen: '127.0.0.1:0',
    directory: folder,
    exports,
    tls: secure ? () => ({ ca: authority.ca, ...certificate }) : undefined,
    clock: systemClock,
    log: silentLog,
  });
  gateways.push(gateway);
  return gateway;
}

/** The certificates of a client, in a folder as libnbd and qemu want it. */
async function credentials(role: PeerIdentity['role']): Promise<string> {
  const directory = join(folder, `tls-${role}`);
  const { cert, key } = await authority.issue({ role, name: 'tester' });
  await mkdir(directory);
  await writeFile(join(directory, 'ca-cert.pem'), authority.ca);
  await writeFile(join(directory, 'client-cert.pem'), cert);
  await writeFile(join(directory, 'client-key.pem'), key);
  return directory;
}

function run(tool: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(tool, args, { timeout: 60_000 }, (error: ExecFileException | null, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

async function succeed(tool: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(tool, ...args);
  expect({ code, output: code === 0 ? '' : stdout + stderr }).toEqual({ code: 0, output: '' });
  return stdout;
}

const uri = ({ port }: NbdGateway, name: string, directory: string) =>
  `nbds://localhost:${port}/${name}?tls-certificates=${directory}`;

/** What libnbd makes of the error replies POLICY and UNKNOWN; it does not show their messages. */
const refusedByPolicy = /Operation not supported for export/;
const unknown = /No such file or directory for export/;

const missing = ['nbdinfo', 'nbdcopy', 'qemu-io', 'qemu-img'].filter((tool) => !isInstalled(tool));

describe.skipIf(missing.length > 0)('over TLS', () => {
  test('a peer with the role backup lists and copies snapshots, and nothing else', async () => {
    const gateway = await open('all');
    const backup = await credentials('backup');
    const list = await succeed('nbdinfo', '--list', uri(gateway, '', backup));
    expect([...list.matchAll(/export="(.*)":/g)].map(([, name]) => name)).toEqual(['a@monday']);
    expect(await succeed('nbdinfo', '--size', uri(gateway, 'a@monday', backup))).toBe(`${size}\n`);
    const copy = join(folder, 'copy');
    await succeed('nbdcopy', uri(gateway, 'a@monday', backup), copy);
    expect((await readFile(copy)).equals(monday.bytes)).toBe(true);
    const refused = await run('nbdinfo', uri(gateway, 'a', backup));
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(refusedByPolicy);
    await waitFor(() => exportsOfA.openCount === 0, { timeoutMs: 10_000 });
  });

  test('qemu reads a snapshot, and as operator writes the live volume where that is offered', async () => {
    const gateway = await open('all');
    const image = (name: string) => [
      ...['--object', `tls-creds-x509,id=tls,endpoint=client,dir=${join(folder, 'tls-operator')}`],
      ...['--image-opts', `driver=nbd,host=localhost,port=${gateway.port},export=${name},tls-creds=tls`],
    ];
    await credentials('operator');
    await succeed('qemu-io', '-r', '-c', 'read -P 1 0 4k', '-c', 'read -P 2 4k 4k', ...image('a@monday'));
    await succeed('qemu-io', '-c', 'write -P 9 1M 64k', '-c', 'flush', ...image('a'));
    expect(live.bytes.subarray(mebibyte, mebibyte + 65_536).every((byte) => byte === 9)).toBe(true);
    const snapshot = await run('qemu-io', '-c', 'write -P 9 0 4k', ...image('a@monday'));
    expect(snapshot.stdout + snapshot.stderr).toMatch(/permission denied|read.?only/i);
    expect(monday.bytes[0]).toBe(1);
  });

  test('live volumes are not there unless they are offered, nor is anything for other nodes or without a certificate', async () => {
    const gateway = await open('snapshots');
    const operator = await credentials('operator');
    expect((await run('nbdinfo', uri(gateway, 'b', operator))).stderr).toMatch(refusedByPolicy);
    expect((await run('nbdinfo', uri(gateway, 'nope@x', operator))).stderr).toMatch(unknown);
    expect((await run('nbdinfo', uri(gateway, '..%2Fa', operator))).stderr).toMatch(unknown);
    const node = await credentials('node');
    expect((await run('nbdinfo', uri(gateway, 'a@monday', node))).stderr).toMatch(refusedByPolicy);
    expect((await run('nbdinfo', `nbd://localhost:${gateway.port}/a@monday`)).code).not.toBe(0);
    const stranger = await TestAuthority.create();
    const { cert, key } = await stranger.issue({ role: 'operator', name: 'x' });
    await writeFile(join(operator, 'client-cert.pem'), cert);
    await writeFile(join(operator, 'client-key.pem'), key);
    expect((await run('nbdinfo', uri(gateway, 'a@monday', operator))).code).not.toBe(0);
    await stranger.remove();
    expect(exportsOfA.openCount).toBe(0);
  });
});

describe('without TLS, on loopback', () => {
  async function greeted(gateway: NbdGateway): Promise<ByteChannel> {
    const channel = await ByteChannel.connect(gateway.port);
    await channel.receive(18);
    channel.send(clientFlags());
    return channel;
  }

  test('reads and writes go through as they are', async () => {
    const gateway = await open('all', false);
    const channel = await greeted(gateway);
    const nbd = await NbdTestClient.over(channel, { exportName: 'a', greeted: true });
    const data = Buffer.alloc(2 * mebibyte, 5);
    await nbd.write(mebibyte, data);
    await nbd.flush();
    expect((await nbd.read(mebibyte, data.length)).equals(data)).toBe(true);
    nbd.close();
    await waitFor(() => exportsOfA.openCount === 0, { timeoutMs: 10_000 });
  });

  test('an export that is asked about first opens no way to another', async () => {
    const gateway = await open('snapshots', false);
    const channel = await greeted(gateway);
    const info = 6;
    const go = 7;
    channel.send(optionMessage(info, goData('a@monday')));
    for (let type = 0; type !== 1; ) {
      const header = await channel.receive(20);
      type = header.readUInt32BE(12);
      await channel.receive(header.readUInt32BE(16));
    }
    channel.send(optionMessage(go, goData('a')));
    const refused = await channel.receive(20);
    expect(refused.readUInt32BE(12)).toBeGreaterThan(0x80000000);
    expect((await channel.receive(refused.readUInt32BE(16))).toString()).toMatch(/not offered/);
    channel.close();
  });

  test('a client that sends garbage, too much, or goes away, harms nobody else', async () => {
    const gateway = await open('all', false);
    const garbage = await greeted(gateway);
    garbage.send(Buffer.alloc(64, 0xff));
    await expect(garbage.receive(1)).rejects.toThrow();
    const long = await greeted(gateway);
    long.send(optionMessage(7, Buffer.alloc(70_000)));
    await expect(long.receive(1)).rejects.toThrow();
    const gone = await greeted(gateway);
    gone.send(optionMessage(7, goData('a')).subarray(0, 20));
    gone.close();
    const nbd = await NbdTestClient.over(await greeted(gateway), { exportName: 'b', greeted: true });
    expect(await nbd.read(0, 512)).toEqual(Buffer.alloc(512));
    nbd.close();
  });
});
