import { afterEach, describe, expect, test } from 'vitest';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { Random } from '../support/random.ts';
import { SlowLink } from '../support/slow-link.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, expectOk, put } from './cluster.ts';

/** What docs/topologies.md shows, with real agents. The figures are printed, not judged: they are of this machine, now. */
const started: AgentProcess[] = [];
const links: SlowLink[] = [];

afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.close()));
  await Promise.all(started.splice(0).map((agent) => agent.remove()));
});

const sizeBytes = 4 * 1024 * 1024;
const blockBytes = 4096;
const blocks = sizeBytes / blockBytes;
const path = (volume: string) => `/v1/volumes/${volume}`;
const buffer = { pool: 'buffer', capacity: '64Mi' };
const common = (volume: string) => ({ size: sizeBytes, pool: 'main', epoch: 1, uid: `uid-${volume}` });

async function agents(...names: string[]): Promise<AgentProcess[]> {
  const running = await Promise.all(names.map((name) => startAgent(name)));
  started.push(...running);
  return running;
}

async function viewOf(agent: AgentProcess, volume: string): Promise<VolumeView> {
  return (await call<VolumeView>(agent, 'GET', path(volume))).body;
}

async function clientOf(agent: AgentProcess, volume: string, exportName = volume): Promise<NbdTestClient> {
  return NbdTestClient.connect((await viewOf(agent, volume)).nbd, { exportName });
}

async function contentOf(agent: AgentProcess, volume: string, exportName = volume): Promise<Buffer> {
  const nbd = await clientOf(agent, volume, exportName);
  const content = await nbd.read(0, sizeBytes);
  nbd.close();
  return content;
}

/** Nothing that has been written is still on its way to any standby. */
async function settled(agent: AgentProcess, volume: string): Promise<void> {
  const isSettled = async () =>
    (await viewOf(agent, volume)).mirrors.every(({ state, lagBytes }) => state === 'InSync' && lagBytes === 0);
  await waitFor(isSettled, { timeoutMs: 60_000, what: `the mirrors of ${volume}` });
}

async function snapshot(agent: AgentProcess, volume: string, name: string, mirror?: string): Promise<void> {
  const asked = mirror === undefined ? {} : { mirror };
  await waitFor(
    async () => {
      const { status, body } = await put(agent, `${path(volume)}/snapshots/${name}`, asked);
      if (status >= 300 && status !== 503) throw new Error(JSON.stringify(body));
      return status === 200 || status === 201;
    },
    { timeoutMs: 60_000 },
  );
}

/** Overwrites blocks at random places, `depth` at a time, and says how many a second. */
async function overwrite(nbd: NbdTestClient, count: number, depth: number, seed = 1): Promise<number> {
  const random = new Random(seed);
  const from = performance.now();
  let left = count;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await nbd.write(random.below(blocks) * blockBytes, Buffer.alloc(blockBytes, left % 251));
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return Math.round((count * 1000) / (performance.now() - from));
}

function figure(text: string): void {
  process.stdout.write(`topologies: ${text}\n`);
}

test("a single server: its snapshots are on the volume's own node", async () => {
  const [a] = (await agents('node-a')) as [AgentProcess];
  expectOk(await put(a, path('one'), { ...common('one'), role: 'primary', buffer }));
  const nbd = await clientOf(a, 'one');
  for (let at = 0; at < sizeBytes; at += 1024 * 1024) await nbd.write(at, Buffer.alloc(1024 * 1024, at >> 20));
  const without = await overwrite(nbd, blocks, 32);
  const before = await contentOf(a, 'one');
  await snapshot(a, 'one', 's');
  const first = await overwrite(nbd, blocks, 32, 2);
  const later = await overwrite(nbd, blocks, 32, 2);
  figure(
    `single server, 4 KiB overwrites/s: ${without} without a snapshot, ${first} after one, ${later} once preserved`,
  );
  expect((await contentOf(a, 'one', 'one@s')).equals(before)).toBe(true);
  expect((await viewOf(a, 'one')).buffer?.usedBytes).toBeGreaterThan(sizeBytes / 2);
  nbd.close();
});

test('many to one: eight primaries on two nodes, their standbys and buffers on one', async () => {
  const [a, b, keeper] = (await agents('node-a', 'node-b', 'node-c')) as [AgentProcess, AgentProcess, AgentProcess];
  const primaries = Array.from({ length: 8 }, (_, index) => ({ volume: `v${index}`, agent: index % 2 === 0 ? a : b }));
  const clients = await Promise.all(
    primaries.map(async ({ volume, agent }) => {
      expectOk(await put(keeper, path(volume), { ...common(volume), role: 'standby', buffer }));
      const mirrors = [{ name: 'm', address: keeper.mirrorAddress, mode: 'synchronous' }];
      expectOk(await put(agent, path(volume), { ...common(volume), role: 'primary', mirrors }));
      await settled(agent, volume);
      return clientOf(agent, volume);
    }),
  );
  // All at once, until one of them has written its share: how far the others are says how the standby's node is shared.
  const written = clients.map(() => 0);
  const share = 500;
  await Promise.all(
    clients.map(async (nbd, index) => {
      while (Math.max(...written) < share) {
        await nbd.write(((written[index] ?? 0) % blocks) * blockBytes, Buffer.alloc(blockBytes, index + 1));
        written[index] = (written[index] ?? 0) + 1;
      }
    }),
  );
  figure(`many to one, writes of eight primaries until the first had ${share}: ${written.join(' ')}`);
  expect(Math.min(...written), 'nobody starves').toBeGreaterThan(0);
  for (const { volume, agent } of primaries) await snapshot(agent, volume, 'nightly', 'm');
  for (const { volume, agent } of primaries) {
    expect((await contentOf(keeper, volume, `${volume}@nightly`)).equals(await contentOf(agent, volume))).toBe(true);
  }
  for (const nbd of clients) nbd.close();
});

test('one to many: two synchronous standbys and an asynchronous one, of which one is lost and comes back', async () => {
  const [a, ...standbys] = (await agents('node-a', 'node-b', 'node-c', 'node-d')) as [AgentProcess, ...AgentProcess[]];
  const mirrors = standbys.map(({ node, mirrorAddress }, index) => ({
    name: node,
    address: mirrorAddress,
    mode: index < 2 ? 'synchronous' : 'asynchronous',
  }));
  for (const standby of standbys) {
    expectOk(await put(standby, path('one'), { ...common('one'), role: 'standby', buffer }));
  }
  expectOk(await put(a, path('one'), { ...common('one'), role: 'primary', mirrors, onLoss: 'continue' }));
  await settled(a, 'one');
  const nbd = await clientOf(a, 'one');
  await overwrite(nbd, 200, 8);
  await standbys[1]?.kill();
  await overwrite(nbd, 200, 8, 2);
  await standbys[1]?.start();
  await settled(a, 'one');
  for (const [index, standby] of standbys.entries()) {
    await snapshot(a, 'one', `s${index}`, standby.node);
    expect((await contentOf(standby, 'one', `one@s${index}`)).equals(await contentOf(a, 'one'))).toBe(true);
  }
  nbd.close();
});

describe('a wide area', () => {
  async function mirrored(delayMs: number, bytesPerSecond: number, mode: 'synchronous' | 'asynchronous') {
    const [a, b] = (await agents('node-a', 'node-b')) as [AgentProcess, AgentProcess];
    const link = await SlowLink.start(b.mirrorAddress);
    links.push(link);
    expectOk(await put(b, path('one'), { ...common('one'), role: 'standby', buffer }));
    const mirrors = [{ name: 'b', address: link.address, mode }];
    expectOk(await put(a, path('one'), { ...common('one'), role: 'primary', mirrors }));
    await settled(a, 'one');
    link.delayMs = delayMs;
    link.bytesPerSecond = bytesPerSecond;
    return { a, b, nbd: await clientOf(a, 'one') };
  }

  test('synchronous, 20 ms there and back: writes wait for the way, many of them at a time', async () => {
    const { a, b, nbd } = await mirrored(10, Number.POSITIVE_INFINITY, 'synchronous');
    const one = await overwrite(nbd, 50, 1);
    const many = await overwrite(nbd, 640, 32, 2);
    figure(`synchronous over 20 ms, 4 KiB writes/s: ${one} one after the other, ${many} at depth 32`);
    await nbd.flush();
    await snapshot(a, 'one', 's', 'b');
    expect((await contentOf(b, 'one', 'one@s')).equals(await contentOf(a, 'one'))).toBe(true);
    nbd.close();
  });

  test('asynchronous, 200 ms there and back and 10 Mbit/s: writes do not wait, the standby lags and catches up', async () => {
    const { a, b, nbd } = await mirrored(100, 1_250_000, 'asynchronous');
    const rate = await overwrite(nbd, 600, 32);
    const { lagBytes = 0, lagSeconds = 0 } = (await viewOf(a, 'one')).mirrors[0] ?? {};
    const from = performance.now();
    await settled(a, 'one');
    const seconds = ((performance.now() - from) / 1000).toFixed(1);
    const lag = `${Math.round(lagBytes / 1024)} KiB and ${lagSeconds.toFixed(1)} s behind`;
    figure(`asynchronous over 200 ms and 10 Mbit/s: ${rate} 4 KiB writes/s, then ${lag}, caught up in ${seconds} s`);
    expect(lagBytes).toBeGreaterThan(0);
    await snapshot(a, 'one', 's', 'b');
    expect((await contentOf(b, 'one', 'one@s')).equals(await contentOf(a, 'one'))).toBe(true);
    nbd.close();
  });
});
