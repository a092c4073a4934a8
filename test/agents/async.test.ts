import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { SlowLink } from '../support/slow-link.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, put, sizeBytes, view, volume } from './cluster.ts';

/** a → b → c: b follows a, and c follows b. */
let a: AgentProcess;
let b: AgentProcess;
let c: AgentProcess;
let link: SlowLink;

beforeEach(async () => {
  [a, b, c] = await Promise.all([startAgent('node-a'), startAgent('node-b'), startAgent('node-c')]);
  link = await SlowLink.start(b.mirrorAddress);
});
afterEach(async () => {
  await link.close();
  await Promise.all([a, b, c].map((agent) => agent.remove()));
});

const common = { size: sizeBytes, pool: 'main', epoch: 1, uid: 'uid-1', buffer: { pool: 'buffer', capacity: '256Mi' } };
const path = `/v1/volumes/${volume}`;
const block = (value: number, bytes = 4096) => Buffer.alloc(bytes, value);

async function mirrored(settings: object = {}): Promise<void> {
  expectOk(await put(b, path, { ...common, role: 'standby' }));
  const mirrors = [{ name: 'b', address: link.address, mode: 'asynchronous', ...settings }];
  expectOk(await put(a, path, { ...common, role: 'primary', mirrors }));
  await follows(a);
}

async function cascaded(first: 'synchronous' | 'asynchronous' = 'synchronous'): Promise<void> {
  expectOk(await put(c, path, { ...common, role: 'standby' }));
  const behind = [{ name: 'c', address: c.mirrorAddress, mode: 'asynchronous' }];
  expectOk(await put(b, path, { ...common, role: 'standby', mirrors: behind }));
  const mirrors = [{ name: 'b', address: link.address, mode: first }];
  expectOk(await put(a, path, { ...common, role: 'primary', mirrors }));
  await follows(a);
  await follows(b);
}

async function mirrorOf(agent: AgentProcess): Promise<VolumeView['mirrors'][number] | undefined> {
  return (await view(agent)).mirrors[0];
}

/** Everything is at the standby. */
async function follows(agent: AgentProcess): Promise<void> {
  await waitFor(
    async () => {
      const mirror = await mirrorOf(agent);
      return mirror?.state === 'InSync' && mirror.lagBytes === 0;
    },
    { timeoutMs: 60_000 },
  );
}

async function snapshot(name: string, mirror: string): Promise<void> {
  const asked = `${path}/snapshots/${name}`;
  await waitFor(
    async () => {
      const { status, body } = await put(a, asked, { mirror });
      if (status >= 300 && status !== 503) throw new Error(JSON.stringify(body));
      return status === 200 || status === 201;
    },
    { timeoutMs: 60_000 },
  );
}

describe('an asynchronous mirror', () => {
  test('lags behind a slow link while writes go on, and a snapshot holds what had been written at its barrier', async () => {
    await mirrored();
    const nbd = await client(a);
    link.bytesPerSecond = 4 * 1024 * 1024;
    for (let at = 0; at < sizeBytes; at += 65_536) await nbd.write(at, block(1 + (at % 251), 65_536));
    await nbd.flush();
    const lagging = await mirrorOf(a);
    expect(lagging?.lagBytes).toBeGreaterThan(1024 * 1024);
    expect(lagging?.lagSeconds).toBeGreaterThan(0);
    const before = await content(a);
    const taken = snapshot('s', 'b');
    // Long before the standby has got the barrier.
    await waitFor(async () => (await call(a, 'GET', `${path}/snapshots/s`)).status === 200, { timeoutMs: 10_000 });
    for (let at = 0; at < sizeBytes; at += 1024 * 1024) await nbd.write(at, block(0xee));
    link.bytesPerSecond = Number.POSITIVE_INFINITY;
    await taken;
    expect((await content(b, `${volume}@s`)).equals(before)).toBe(true);
    await follows(a);
    nbd.close();
  });

  test('needs less of the link with zstd', async () => {
    await mirrored({ compression: 'zstd' });
    const nbd = await client(a);
    const before = link.bytes;
    for (let at = 0; at < sizeBytes; at += 65_536) await nbd.write(at, block(at % 251, 65_536));
    await follows(a);
    expect(link.bytes - before).toBeLessThan(sizeBytes / 4);
    await snapshot('s', 'b');
    expect((await content(b, `${volume}@s`)).equals(await content(a))).toBe(true);
    nbd.close();
  });

  test('either side is killed in the middle of writes: in the end both are equal', async () => {
    await mirrored();
    const nbd = await client(a);
    for (let index = 0; index < 2000; index += 1) {
      await nbd.write((index * 20_480) % sizeBytes, block(index % 251));
      if (index % 100 === 0) await nbd.flush();
      if (index === 700) await b.kill();
      if (index === 1200) await b.start();
    }
    nbd.close();
    await a.kill();
    await a.start();
    await follows(a);
    await snapshot('s', 'b');
    expect((await content(b, `${volume}@s`)).equals(await content(a))).toBe(true);
    expect((await view(b)).clean).toBe(false);
    expect((await view(b)).consistent).toBe(true);
  });

  test('overflows while the link is cut: writes go on, and a resync follows under the safety snapshot', async () => {
    await mirrored({ journal: { pool: 'buffer', capacity: '1Mi' } });
    const nbd = await client(a);
    await nbd.write(0, block(7));
    await follows(a);
    link.cut();
    for (let round = 0; round < 4; round += 1) {
      for (let at = 0; at < sizeBytes; at += 1024 * 1024) await nbd.write(at, block(round, 1024 * 1024));
    }
    await waitFor(async () => (await mirrorOf(a))?.state === 'Outdated', { timeoutMs: 10_000 });
    expect((await view(b)).consistent).toBe(true);
    expect((await put(a, `${path}/snapshots/early`, { mirror: 'b' })).status).toBe(503);
    link.isCut = false;
    await follows(a);
    await snapshot('s', 'b');
    expect((await content(b, `${volume}@s`)).equals(await content(a))).toBe(true);
    nbd.close();
    await waitFor(async () => !(await view(a)).attached, { timeoutMs: 10_000 });
    expectOk(await call(a, 'DELETE', path));
    expect(await a.poolContents()).toEqual([]);
  });

  test('is promoted only by an order that accepts the loss', async () => {
    await mirrored();
    const nbd = await client(a);
    await nbd.write(4096, block(3));
    await follows(a);
    nbd.close();
    await a.kill();
    expectOk(await call(b, 'POST', `${path}/prepare`, { epoch: 2 }));
    expect((await put(b, path, { ...common, role: 'primary', epoch: 2 })).status).toBe(409);
    expectOk(await put(b, path, { ...common, role: 'primary', epoch: 2, acceptDataLoss: true }));
    expect((await content(b)).subarray(4096, 8192)).toEqual(block(3));
  });
});

describe('a cascade', () => {
  test('a snapshot at its end equals the root at the barrier, in the middle of writes', async () => {
    await cascaded();
    const nbd = await client(a);
    for (let index = 0; index < 500; index += 1) await nbd.write((index * 20_480) % sizeBytes, block(index % 251));
    const before = await content(a);
    const taken = snapshot('s', 'b/c');
    await taken;
    for (let at = 0; at < sizeBytes; at += 1024 * 1024) await nbd.write(at, block(0xee));
    await nbd.flush();
    expect((await content(c, `${volume}@s`)).equals(before)).toBe(true);
    expect((await view(b)).snapshots).toEqual([]);
    nbd.close();
  });

  test('a resync of the middle reaches the end, which has its own safety snapshot meanwhile', async () => {
    await cascaded('asynchronous');
    const nbd = await client(a);
    await nbd.write(0, block(1));
    await follows(a);
    await follows(b);
    await b.kill();
    for (let at = 0; at < sizeBytes; at += 65_536) await nbd.write(at, block(at % 251));
    await b.start();
    await follows(a);
    await follows(b);
    await waitFor(async () => (await view(c)).consistent, { timeoutMs: 10_000 });
    await snapshot('s', 'b/c');
    expect((await content(c, `${volume}@s`)).equals(await content(a))).toBe(true);
    nbd.close();
  });

  test('the middle is promoted and keeps its mirror, without a new copy of everything', async () => {
    await cascaded();
    const nbd = await client(a);
    for (let index = 0; index < 200; index += 1) await nbd.write(index * 4096, block(index));
    await nbd.flush();
    nbd.close();
    await follows(b);
    await a.kill();
    expectOk(await call(b, 'POST', `${path}/prepare`, { epoch: 2 }));
    const mirrors = [{ name: 'c', address: c.mirrorAddress, mode: 'asynchronous' }];
    expectOk(await put(b, path, { ...common, role: 'primary', epoch: 2, mirrors }));
    await follows(b);
    const promoted = await client(b);
    await promoted.write(0, block(0x77));
    await follows(b);
    promoted.close();
    expectOk(await put(b, `${path}/snapshots/s`, { mirror: 'c' }));
    expect((await content(c, `${volume}@s`)).equals(await content(b))).toBe(true);
    expect((await view(c)).epoch).toBe(2);
  });
});
