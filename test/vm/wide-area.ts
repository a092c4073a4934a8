/**
 * Mirrors over a line that is long, narrow and loses packets, all of it done by the kernel of an emulated machine. Run by
 * wide-area.test.ts through `boot`; writes /out/results.json: for each story its error, or null; and figures to its output.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { NbdTestClient } from '../support/nbd-client.ts';
import { Random } from '../support/random.ts';
import { waitFor } from '../support/wait-for.ts';
import { GuestAgent, patienceMs } from './guest-agent.ts';
import {
  countPackets,
  type LineShape,
  retransmissions,
  shapeLine,
  straightenLine,
  useCongestionControl,
} from './lossy-line.ts';

interface Volume {
  readonly nbd: string;
  readonly mirrors: readonly { readonly state: string; readonly lagBytes: number; readonly lagSeconds?: number }[];
}

const [a, b] = [new GuestAgent('node-a', 7071, { attach: 'none' }), new GuestAgent('node-b', 7081, { attach: 'none' })];
const mirrorPort = 7082;
const size = 4 * 1024 * 1024;
const blockBytes = 4096;
const near: LineShape = { delay: '10ms' };
const far: LineShape = { delay: '100ms', rate: '10mbit', loss: '1%' };
/** A line over which much is lost takes long for little. */
const catchUpMs = 300_000;

const viewOf = (agent: GuestAgent, volume: string) => agent.call<Volume>('GET', `/v1/volumes/${volume}`);

async function settled(volume: string): Promise<void> {
  const isSettled = async () =>
    (await viewOf(a, volume)).mirrors.every(({ state, lagBytes }) => state === 'InSync' && lagBytes === 0);
  await waitFor(isSettled, { timeoutMs: catchUpMs, what: `the mirror of ${volume}` });
}

async function mirrored(volume: string, mode: 'synchronous' | 'asynchronous'): Promise<NbdTestClient> {
  const common = { size, pool: 'main', epoch: 1, uid: `uid-${volume}`, provisioning: 'sparse' };
  const buffer = { pool: 'buffer', capacity: '8Mi' };
  await b.call('PUT', `/v1/volumes/${volume}`, { ...common, role: 'standby', buffer });
  const mirrors = [{ name: 'b', address: b.mirrorAddress, mode }];
  await a.call('PUT', `/v1/volumes/${volume}`, { ...common, role: 'primary', mirrors });
  await settled(volume);
  return NbdTestClient.connect((await viewOf(a, volume)).nbd, { exportName: volume });
}

/** Overwrites blocks at random places with random content, `depth` at a time, and says how many a second. */
async function overwrite(nbd: NbdTestClient, count: number, depth: number): Promise<number> {
  const random = new Random(count);
  const startedAt = performance.now();
  let left = count;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await nbd.write(random.below(size / blockBytes) * blockBytes, randomBytes(blockBytes));
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return Math.round((count * 1000) / (performance.now() - startedAt));
}

async function contentOf(agent: GuestAgent, volume: string, exportName: string): Promise<Buffer> {
  const nbd = await NbdTestClient.connect((await viewOf(agent, volume)).nbd, { exportName });
  const content = await nbd.read(0, size);
  nbd.close();
  return content;
}

/** A snapshot at the standby has what the primary has. */
async function sameOnBoth(volume: string): Promise<void> {
  const path = `/v1/volumes/${volume}/snapshots/s`;
  await a.call('PUT', path, { mirror: 'b' });
  const taken = () =>
    b.call('GET', path).then(
      () => true,
      () => false,
    );
  await waitFor(taken, { timeoutMs: patienceMs, what: 'the snapshot at the standby' });
  const exportName = `${volume}@s`;
  assert.ok((await contentOf(b, volume, exportName)).equals(await contentOf(a, volume, volume)), 'both are equal');
}

function figure(text: string): void {
  process.stdout.write(`wide area: ${text}\n`);
}

async function synchronous(): Promise<void> {
  const nbd = await mirrored('near', 'synchronous');
  shapeLine(mirrorPort, near);
  const one = await overwrite(nbd, 40, 1);
  const many = await overwrite(nbd, 640, 32);
  figure(`synchronous over 20 ms, 4 KiB writes/s: ${one} one after the other, ${many} at depth 32`);
  assert.ok(one <= 50, `a write waits for the way there and back, so there are at most 50 a second and not ${one}`);
  await nbd.flush();
  await sameOnBoth('near');
  nbd.close();
}

/** With the congestion control of the sender's kernel, which decides what a line with losses carries. */
async function asynchronous(congestionControl: string, blocks: number): Promise<void> {
  const volume = `far-${congestionControl}`;
  useCongestionControl(congestionControl);
  const nbd = await mirrored(volume, 'asynchronous');
  shapeLine(mirrorPort, far);
  const resentBefore = retransmissions();
  const startedAt = performance.now();
  const rate = await overwrite(nbd, blocks, 32);
  const { lagBytes = 0, lagSeconds = 0 } = (await viewOf(a, volume)).mirrors[0] ?? {};
  assert.ok(lagBytes > 0, 'the writes did not wait for the line');
  await settled(volume);
  const seconds = (performance.now() - startedAt) / 1000;
  const { sent, dropped } = countPackets();
  assert.ok(dropped > 0, 'packets were lost');
  const kib = (blocks * blockBytes) / 1024;
  figure(
    `asynchronous over 200 ms, 10 Mbit/s and 1 % loss, ${congestionControl}: ${rate} 4 KiB writes/s, then ` +
      `${Math.round(lagBytes / 1024)} KiB and ${lagSeconds.toFixed(1)} s behind; ${kib} KiB there after ` +
      `${seconds.toFixed(1)} s, ${Math.round((kib * 8.192) / seconds)} kbit/s; ${dropped} of ${sent + dropped} packets ` +
      `lost, ${retransmissions() - resentBefore} sent again`,
  );
  await sameOnBoth(volume);
  nbd.close();
}

const stories: Record<string, () => Promise<void>> = {
  synchronous,
  cubic: () => asynchronous('cubic', 256),
  bbr: () => asynchronous('bbr', 256),
};
const results: Record<string, string | null> = {};
await Promise.all([a.start(), b.start()]);
process.stdout.write('started\n');
for (const [name, story] of Object.entries(stories)) {
  try {
    await story();
    results[name] = null;
  } catch (error) {
    results[name] = `${error instanceof Error ? error.stack : error}\n${a.log()}\n${b.log()}`;
  }
  straightenLine();
  process.stdout.write(`${name}: ${results[name] ?? 'done'}\n`);
  writeFileSync('/out/results.json', JSON.stringify(results));
}
process.exit(Object.values(results).every((error) => error === null) ? 0 : 1);
