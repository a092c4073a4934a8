import { afterEach, describe, expect, test } from 'vitest';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { AgentProcess } from '../kubernetes/support/agent-process.ts';
import type { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, type Problem, put, sizeBytes, TwoAgents, view, volume } from './cluster.ts';

const mib = 1024 * 1024;
const timeoutMs = 60_000;
const path = `/v1/volumes/${volume}/restore`;

let agents: TwoAgents;
afterEach(() => agents?.remove());

/** Writes a piece of 1 MiB of one byte's value. */
async function fill(nbd: NbdTestClient, model: Buffer, atMib: number, value: number): Promise<void> {
  const data = Buffer.alloc(mib, value);
  await nbd.write(atMib * mib, data);
  data.copy(model, atMib * mib);
}

/** A mirrored volume with a snapshot "good", and half of it overwritten since. Answers with both contents. */
async function damaged(bytesPerSecond?: number): Promise<{ good: Buffer; bad: Buffer }> {
  agents = await TwoAgents.start('none', undefined, bytesPerSecond);
  await agents.mirrored();
  const model = Buffer.alloc(sizeBytes);
  const nbd = await client(agents.a);
  for (let at = 0; at < 12; at += 1) await fill(nbd, model, at, 1 + at);
  expectOk(await agents.snapshot('good'));
  const good = Buffer.from(model);
  for (let at = 2; at < 10; at += 1) await fill(nbd, model, at, 101 + at);
  // The same as before: changed, but not different.
  await fill(nbd, model, 0, 1);
  await nbd.flush();
  nbd.close();
  await unused(agents.a);
  return { good, bad: model };
}

async function unused(agent: AgentProcess): Promise<void> {
  await waitFor(async () => !(await view(agent)).attached, { timeoutMs, what: 'the end of the connection' });
}

function restore(agent: AgentProcess, more: object = {}) {
  return put<VolumeView & Problem>(agent, path, { name: 'r', snapshot: 'good', mirror: 'm', ...more });
}

async function reaches(agent: AgentProcess, state: string): Promise<NonNullable<VolumeView['restore']>> {
  let last: unknown;
  return await waitFor(
    async () => {
      last = (await view(agent)).restore;
      const { restore: found } = await view(agent);
      return found?.state === state && found;
    },
    { timeoutMs, what: `restore ${state}` },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last)}\n${agent.logTail()}`);
  });
}

async function partlyDone(agent: AgentProcess): Promise<void> {
  await waitFor(async () => ((await view(agent)).restore?.writtenBytes ?? 0) >= 2 * mib, {
    timeoutMs,
    intervalMs: 5,
    what: 'a restore that has written something',
  });
  expect((await view(agent)).restore?.state).toBe('Running');
}

/** The live volume is refused, with the reason. */
async function notOffered(agent: AgentProcess): Promise<void> {
  await expect(client(agent)).rejects.toThrow(/restore/);
}

/** Both copies hold this: what a snapshot of the standby shows is what it has. */
async function bothHold(expected: Buffer): Promise<void> {
  expect((await content(agents.a)).equals(expected), 'the primary').toBe(true);
  await agents.inSync();
  expectOk(await agents.snapshot('check'));
  expect((await content(agents.b, `${volume}@check`)).equals(expected), 'the standby').toBe(true);
}

describe('a volume is put back to a snapshot of its standby', () => {
  test('only what differs is written, on both copies; what was there before is kept; asked again, nothing happens', async () => {
    const { good, bad } = await damaged();
    expect((await restore(agents.a, { before: 'kept' })).status).toBe(202);
    const done = await reaches(agents.a, 'Done');
    expect(done).toMatchObject({ snapshot: 'good', mirror: 'm', totalBytes: 9 * mib, checkedBytes: 9 * mib });
    expect(done.writtenBytes).toBe(8 * mib);
    await bothHold(good);
    expect((await content(agents.b, `${volume}@kept`)).equals(bad)).toBe(true);
    expect((await content(agents.b, `${volume}@good`)).equals(good)).toBe(true);
    expect((await view(agents.b)).restore).toMatchObject({ name: 'r', state: 'Done' });

    const nbd = await client(agents.a);
    await fill(nbd, good, 5, 200);
    await nbd.flush();
    nbd.close();
    await agents.a.kill();
    await agents.a.start();
    await agents.inSync();
    expect((await restore(agents.a)).body.restore?.state).toBe('Done');
    expect((await content(agents.a)).equals(good)).toBe(true);
  });

  test('what the restore overwrote can be had back the same way', async () => {
    const { bad } = await damaged();
    expectOk(await restore(agents.a, { before: 'kept' }));
    await reaches(agents.a, 'Done');
    expectOk(await restore(agents.a, { name: 'back', snapshot: 'kept' }));
    await waitFor(async () => (await view(agents.a)).restore?.name === 'back', { timeoutMs });
    await reaches(agents.a, 'Done');
    await bothHold(bad);
  });

  test('it is refused, with the reason, and nothing has changed', async () => {
    const { bad } = await damaged();
    const refused = async (more: object, status: number, reason: RegExp) => {
      const answer = await restore(agents.a, more);
      expect([answer.status, answer.body.detail]).toEqual([status, expect.stringMatching(reason)]);
    };
    const nbd = await client(agents.a);
    await refused({}, 409, /1 connections to its live export/);
    nbd.close();
    await unused(agents.a);
    await refused({ snapshot: 'none' }, 404, /no snapshot none/);
    await refused({ mirror: 'none' }, 404, /no mirror none/);
    await refused({ mirror: undefined }, 400, /no snapshot buffer/);
    expectOk(await agents.snapshot('kept'));
    const again = await client(agents.a);
    await fill(again, bad, 3, 33);
    again.close();
    await unused(agents.a);
    await refused({ before: 'kept' }, 409, /written to since snapshot kept/);
    expect((await put<Problem>(agents.b, path, { name: 'r', snapshot: 'good' })).status).toBe(409);
    await agents.b.kill();
    await waitFor(async () => (await view(agents.a)).mirrors[0]?.state !== 'InSync', { timeoutMs });
    await refused({}, 503, /a restore from it needs InSync/);
    await agents.b.start();
    await agents.inSync();
    expect((await view(agents.a)).restore).toBeUndefined();
    await bothHold(bad);
  });

  test('a buffer that could not take in what is overwritten: refused, rather than losing the snapshot in the middle', async () => {
    agents = await TwoAgents.start();
    await agents.mirrored({ standby: { buffer: { pool: 'buffer', capacity: '6Mi' } } });
    const model = Buffer.alloc(sizeBytes);
    const nbd = await client(agents.a);
    for (let at = 0; at < 4; at += 1) await fill(nbd, model, at, 6);
    expectOk(await agents.snapshot('good'));
    for (let at = 0; at < 4; at += 1) await fill(nbd, model, at, 7);
    nbd.close();
    await unused(agents.a);
    const answer = await restore(agents.a, { before: 'kept' });
    expect([answer.status, answer.body.detail]).toEqual([507, expect.stringMatching(/buffer needs 4 ?MiB?/)]);
    await bothHold(model);
  });
});

describe('a restore that is interrupted', () => {
  const slow = 2 * mib;

  test('goes on when the agent of the primary was killed; until it is done the volume is not offered', async () => {
    const { good } = await damaged(slow);
    expectOk(await restore(agents.a));
    await partlyDone(agents.a);
    await notOffered(agents.a);
    await agents.a.kill();
    await agents.a.start();
    await notOffered(agents.a);
    await reaches(agents.a, 'Done');
    await bothHold(good);
  });

  test('goes on when the agent of the standby was killed', async () => {
    const { good } = await damaged(slow);
    expectOk(await restore(agents.a));
    await partlyDone(agents.a);
    await agents.b.kill();
    await waitFor(async () => (await view(agents.a)).restore?.lastError !== undefined, { timeoutMs });
    await notOffered(agents.a);
    await agents.b.start();
    await reaches(agents.a, 'Done');
    await bothHold(good);
  });

  test('goes on at the standby when that takes over, and is offered there only when it is done', async () => {
    const { good } = await damaged(slow);
    expectOk(await restore(agents.a));
    await partlyDone(agents.a);
    await agents.a.kill();
    await promoteB();
    expect((await view(agents.b)).restore).toMatchObject({ name: 'r', state: 'Running' });
    await notOffered(agents.b);
    await reaches(agents.b, 'Done');
    expect((await content(agents.b)).equals(good)).toBe(true);
  });

  test('given up, it leaves the volume as it is, and no copy takes it up again', async () => {
    const { good, bad } = await damaged(slow);
    expectOk(await restore(agents.a));
    await partlyDone(agents.a);
    expect((await call(agents.a, 'DELETE', path)).status).toBe(204);
    await reaches(agents.a, 'GivenUp');
    const left = await content(agents.a);
    expect([left.equals(good), left.equals(bad)]).toEqual([false, false]);
    await unused(agents.a);
    await bothHold(left);
    await agents.a.kill();
    await promoteB();
    expect((await view(agents.b)).restore).toMatchObject({ state: 'GivenUp' });
    expect((await content(agents.b)).equals(left)).toBe(true);
  });

  /** The standby becomes the primary of the next epoch. */
  async function promoteB(): Promise<void> {
    expectOk(await call(agents.b, 'POST', `/v1/volumes/${volume}/prepare`, { epoch: 2 }));
    const buffer = { pool: 'buffer', capacity: '256Mi' };
    const spec = { size: sizeBytes, pool: 'main', epoch: 2, uid: 'uid-1', role: 'primary', buffer };
    expectOk(await put(agents.b, `/v1/volumes/${volume}`, spec));
  }
});

test('a volume alone is put back to a snapshot of its own', async () => {
  agents = await TwoAgents.start();
  const buffer = { pool: 'buffer', capacity: '256Mi' };
  const spec = { size: sizeBytes, pool: 'main', epoch: 1, uid: 'uid-1', role: 'primary', buffer };
  expectOk(await put(agents.a, `/v1/volumes/${volume}`, spec));
  const model = Buffer.alloc(sizeBytes);
  const nbd = await client(agents.a);
  await fill(nbd, model, 1, 1);
  expectOk(await put(agents.a, `/v1/volumes/${volume}/snapshots/good`, {}));
  const good = Buffer.from(model);
  await fill(nbd, model, 1, 2);
  await fill(nbd, model, 14, 3);
  nbd.close();
  await unused(agents.a);
  expectOk(await restore(agents.a, { mirror: undefined, before: 'kept' }));
  expect((await reaches(agents.a, 'Done')).writtenBytes).toBe(2 * mib);
  expect((await content(agents.a)).equals(good)).toBe(true);
  expect((await content(agents.a, `${volume}@kept`)).equals(model)).toBe(true);
});
