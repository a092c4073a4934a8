import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { AgentProcess } from '../kubernetes/support/agent-process.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, type Problem, put, sizeBytes, TwoAgents, view, volume } from './cluster.ts';

const mib = 1024 * 1024;
const timeoutMs = 60_000;
/** Slow enough for whatever a test does meanwhile; see `fast`. */
const bytesPerSecond = mib / 2;
const filled = 'pv-2';
const path = `/v1/volumes/${filled}`;
const hold = `/v1/volumes/${volume}/snapshots/good/holds/${filled}`;
const largerBytes = sizeBytes + 4 * mib;

let agents: TwoAgents;
afterEach(() => agents?.remove());

/** A mirrored volume with a snapshot "good" on its standby, written to since. @returns what the new volume has to hold */
async function withSnapshot(): Promise<Buffer> {
  agents = await TwoAgents.start('none', undefined, bytesPerSecond);
  await agents.mirrored();
  const nbd = await client(agents.a);
  const model = Buffer.alloc(largerBytes);
  for (let at = 0; at < 12; at += 1) {
    model.fill(at + 1, at * mib, (at + 1) * mib);
    await nbd.write(at * mib, model.subarray(at * mib, (at + 1) * mib));
  }
  expectOk(await agents.snapshot('good'));
  await nbd.write(0, Buffer.alloc(mib, 99));
  nbd.close();
  return model;
}

function create(more: object = {}) {
  const source = { volume, uid: 'uid-1', snapshot: 'good', address: agents.b.mirrorAddress };
  const spec = { size: largerBytes, pool: 'main', epoch: 1, uid: 'uid-2', role: 'primary', source, ...more };
  return put<VolumeView & Problem>(agents.a, path, spec);
}

async function begin(): Promise<Buffer> {
  const model = await withSnapshot();
  expectOk(await put(agents.b, hold, { node: 'node-a' }));
  expectOk(await create());
  return model;
}

async function seen(agent: AgentProcess = agents.a): Promise<VolumeView> {
  return (await call<VolumeView>(agent, 'GET', path)).body;
}

async function connect(agent: AgentProcess = agents.a): Promise<NbdTestClient> {
  return NbdTestClient.connect((await seen(agent)).nbd, { exportName: filled });
}

async function holds(model: Buffer): Promise<void> {
  const nbd = await connect();
  for (let at = 0; at < model.length; at += mib) {
    const found = await nbd.read(at, mib);
    if (!found.equals(model.subarray(at, at + mib))) throw new Error(`MiB ${at / mib} is not what it has to be`);
  }
  nbd.close();
}

async function becomesFilled(): Promise<void> {
  await waitFor(async () => (await seen()).filling?.state === 'Filled', { timeoutMs, what: 'a filled volume' });
}

/** The agent of the new volume is killed, and may read as much as it likes from then on. */
async function fast(): Promise<void> {
  await agents.a.kill();
  const file = join(agents.a.directory, 'agent.yaml');
  const config = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, mirror: { ...config.mirror, resyncBytesPerSecond: undefined } }));
  await agents.a.start();
}

/** Small writes, a trim and zeroes, all over what is not filled yet; none is flushed. */
async function scribble(nbd: NbdTestClient, model: Buffer, round: number): Promise<void> {
  for (let at = 0; at < largerBytes; at += 3 * mib) {
    const offset = at + round * 68 * 1024 + 4096;
    const data = Buffer.alloc(4096, 200 + round);
    await nbd.write(offset, data);
    data.copy(model, offset);
  }
  const gone = (13 - round) * mib + 12 * 1024;
  await nbd.trim(gone - 8 * mib, 200 * 1024);
  model.fill(0, gone - 8 * mib, gone - 8 * mib + 200 * 1024);
  await nbd.writeZeroes(gone, 8192);
  model.fill(0, gone, gone + 8192);
}

describe('a volume that is made with the content of a snapshot', () => {
  test('can be used at once, and holds it by itself in the end', async () => {
    const model = await begin();
    const { filling } = await seen();
    expect(filling).toMatchObject({ state: 'Filling', snapshot: 'good', totalBytes: largerBytes });
    const nbd = await connect();
    expect((await nbd.read(11 * mib, mib)).equals(model.subarray(11 * mib, 12 * mib))).toBe(true);
    await scribble(nbd, model, 0);
    await nbd.flush();
    expect((await seen()).filling?.state).toBe('Filling');
    await holds(model);
    const refused = await call<Problem>(agents.b, 'DELETE', `/v1/volumes/${volume}/snapshots/good`);
    expect([refused.status, refused.body.detail]).toEqual([409, expect.stringMatching(/being read/)]);
    nbd.close();
    await fast();
    await becomesFilled();
    expectOk(await call(agents.b, 'DELETE', hold));
    expectOk(await call(agents.b, 'DELETE', `/v1/volumes/${volume}/snapshots/good`));
    await agents.b.kill();
    const later = await connect();
    await scribble(later, model, 1);
    later.close();
    await holds(model);
    await agents.a.kill();
    await agents.a.start();
    await holds(model);
    expect((await seen()).filling).toMatchObject({ state: 'Filled', filledBytes: largerBytes });
  });

  test('goes on wherever the agents are killed, and keeps what was written to it', async () => {
    const model = await begin();
    for (let round = 0; round < 3; round += 1) {
      const nbd = await connect();
      await scribble(nbd, model, round);
      const before = (await seen()).filling?.filledBytes ?? 0;
      if (round % 2 === 1)
        await waitFor(async () => ((await seen()).filling?.filledBytes ?? 0) > before, { timeoutMs, intervalMs: 5 });
      await (round === 2 ? agents.b : agents.a).kill();
      nbd.close();
      await (round === 2 ? agents.b : agents.a).start();
      expect((await seen()).filling?.state).toBe('Filling');
      if (round === 2) await holds(model);
    }
    await fast();
    await becomesFilled();
    await holds(model);
  });

  test('fails where it is not filled when the snapshot is lost, says so, and goes on when it is back', async () => {
    const model = await begin();
    const nbd = await connect();
    await scribble(nbd, model, 0);
    expectOk(await call(agents.b, 'DELETE', hold));
    await agents.b.kill();
    await agents.b.start();
    await waitFor(async () => (await seen()).filling?.lost, { timeoutMs, what: 'the loss in the view' });
    expect((await seen()).filling?.lastError).toMatch(/snapshot good of volume pv-1 .* is not kept for pv-2/);
    await expect(nbd.read(10 * mib, 4096)).rejects.toThrow();
    expect((await nbd.read(4096, 4096)).equals(model.subarray(4096, 8192))).toBe(true);
    expect(await seen()).toMatchObject({ state: 'Ready' });
    nbd.close();
    expectOk(await put(agents.b, hold, {}));
    await fast();
    await becomesFilled();
    await holds(model);
  });

  test('is mirrored while it is filled: the standby holds all of it when it is in sync', async () => {
    const model = await begin();
    const common = { size: largerBytes, pool: 'main', epoch: 1, uid: 'uid-2' };
    const buffer = { pool: 'buffer', capacity: '64Mi' };
    expectOk(await put(agents.b, path, { ...common, role: 'standby', buffer }));
    const mirrors = [{ name: 'm', address: agents.b.mirrorAddress, mode: 'synchronous' }];
    expectOk(await create({ mirrors }));
    await fast();
    const nbd = await connect();
    await scribble(nbd, model, 0);
    await waitFor(async () => (await seen()).mirrors[0]?.state === 'InSync', { timeoutMs });
    await scribble(nbd, model, 1);
    nbd.close();
    expectOk(await put(agents.a, `${path}/snapshots/check`, { mirror: 'm' }));
    const standby = await NbdTestClient.connect((await seen(agents.b)).nbd, { exportName: `${filled}@check` });
    const copy: Buffer[] = [];
    for (let at = 0; at < largerBytes; at += mib) copy.push(await standby.read(at, mib));
    standby.close();
    expect(Buffer.concat(copy).equals(model)).toBe(true);
    await holds(model);
  });

  test('is refused, with the reason', async () => {
    await withSnapshot();
    const notHeld = await create();
    expectOk(notHeld);
    await waitFor(async () => (await seen()).filling?.lost, { timeoutMs });
    await agents.a.deleteVolume(filled);
    expect((await put(agents.b, hold.replace('good', 'none'), {})).status).toBe(404);
    expect((await create({ role: 'standby' })).body.detail).toMatch(/a standby is filled by its primary/);
    expectOk(await put(agents.a, path, { size: largerBytes, pool: 'main', epoch: 1, uid: 'uid-2', role: 'primary' }));
    expect((await create()).body.detail).toMatch(/was not made from snapshot good/);
    expect((await content(agents.b, `${volume}@good`)).length).toBe(sizeBytes);
    expect((await view(agents.b)).snapshots[0]?.readers).toBe(0);
  });
});
