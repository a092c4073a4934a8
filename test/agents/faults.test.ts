import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, type Problem, put, sizeBytes, TwoAgents, view, volume } from './cluster.ts';

let agents: TwoAgents;

beforeEach(async () => {
  agents = await TwoAgents.start();
});
afterEach(() => agents.remove());

const block = (value: number) => Buffer.alloc(4096, value);

describe('the standby', () => {
  test('hangs: writes wait, and when it goes on nothing is lost', async () => {
    await agents.mirrored();
    const nbd = await client(agents.a);
    agents.b.signal('SIGSTOP');
    let completed = false;
    const write = nbd
      .write(0, block(1))
      .then(() => nbd.flush())
      .then(() => {
        completed = true;
      });
    await waitFor(async () => (await view(agents.a)).state === 'Suspended', { timeoutMs: 30_000 });
    expect(completed).toBe(false);
    const refused = await agents.snapshot('s');
    expect(refused.status).toBe(503);
    expect(refused.body.detail).toMatch(/not in sync/);
    agents.b.signal('SIGCONT');
    await write;
    await agents.inSync();
    expect((await agents.snapshot('s')).status).toBe(201);
    expect((await content(agents.b, `${volume}@s`)).subarray(0, 4096)).toEqual(block(1));
    nbd.close();
  });

  test('is killed in the middle of writes: the primary goes on when it is back, and both copies are equal', async () => {
    await agents.mirrored();
    const nbd = await client(agents.a);
    const writes: Promise<void>[] = [];
    for (let index = 0; index < 2000; index += 1) {
      writes.push(nbd.write((index * 8192) % sizeBytes, block(index % 251)));
      if (index === 500) await agents.b.kill();
    }
    await agents.b.start();
    await Promise.all(writes);
    await nbd.flush();
    await agents.inSync();
    expect((await agents.snapshot('after')).status).toBe(201);
    expect((await content(agents.b, `${volume}@after`)).equals(await content(agents.a))).toBe(true);
    nbd.close();
  });

  test('loses its snapshots to nothing but their deletion, also when it is killed', async () => {
    await agents.mirrored();
    const nbd = await client(agents.a);
    await nbd.write(0, block(7));
    expect((await agents.snapshot('kept')).status).toBe(201);
    await nbd.write(0, block(8));
    await nbd.flush();
    await agents.b.kill();
    await agents.b.start();
    await agents.inSync();
    await nbd.write(0, block(9));
    await nbd.flush();
    expect((await content(agents.b, `${volume}@kept`)).subarray(0, 4096)).toEqual(block(7));
    nbd.close();
  });
});

describe('the primary', () => {
  test('is killed: the standby is promoted with every flushed write, and the old primary is fenced when it returns', async () => {
    await agents.mirrored();
    const nbd = await client(agents.a);
    for (let index = 0; index < 256; index += 1) await nbd.write(index * 4096, block(1 + (index % 255)));
    await nbd.flush();
    const before = await content(agents.a);
    await agents.a.kill();

    const early = await put(agents.b, `/v1/volumes/${volume}`, {
      size: sizeBytes,
      pool: 'main',
      role: 'primary',
      epoch: 2,
      uid: 'uid-1',
    });
    expect(early.status).toBe(409);
    expect(early.body.detail).toMatch(/prepare/);
    const prepared = await call<{ clean: boolean; consistent: boolean }>(
      agents.b,
      'POST',
      `/v1/volumes/${volume}/prepare`,
      { epoch: 2 },
    );
    expect(prepared.body).toMatchObject({ clean: true, consistent: true });
    const buffer = { pool: 'buffer', capacity: '256Mi' };
    expectOk(
      await put(agents.b, `/v1/volumes/${volume}`, {
        size: sizeBytes,
        pool: 'main',
        role: 'primary',
        epoch: 2,
        uid: 'uid-1',
        buffer,
      }),
    );
    expect((await content(agents.b)).equals(before)).toBe(true);

    await agents.a.start();
    await waitFor(async () => (await view(agents.a)).state === 'Fenced', { timeoutMs: 30_000 });
    const stale = await call<Problem>(agents.a, 'PUT', `/v1/volumes/${volume}`, {
      size: sizeBytes,
      pool: 'main',
      role: 'primary',
      epoch: 2,
      uid: 'uid-1',
    });
    expect(stale.status).toBe(409);
    await expect(client(agents.a).then((old) => old.write(0, block(3)))).rejects.toThrow();
  });

  test('is killed while nothing is in flight: it starts again, resyncs little, and goes on', async () => {
    await agents.mirrored();
    const nbd = await client(agents.a);
    await nbd.write(8192, block(5));
    await nbd.flush();
    await agents.a.kill();
    await agents.a.start();
    await agents.inSync();
    expect((await content(agents.a)).subarray(8192, 12_288)).toEqual(block(5));
  });
});

describe('bad input', () => {
  const spec = { size: '16Mi', pool: 'main', role: 'primary', epoch: 1 };

  test.each([
    ['a size that is no quantity', 'v', { ...spec, size: 'large' }, 400, /not a size/],
    ['a size of zero', 'v', { ...spec, size: 0 }, 400, /above zero/],
    ['a size larger than the pool', 'v', { ...spec, size: '4Pi' }, 507, /free.*needed/],
    ['a pool that does not exist', 'v', { ...spec, pool: 'nope' }, 404, /no pool nope.*main, buffer/],
    [
      'a buffer in a pool that does not exist',
      'v',
      { ...spec, buffer: { pool: 'nope', capacity: '1Gi' } },
      404,
      /no pool nope/,
    ],
    ['a name that is a path', '..%2Fetc', spec, 400, /volume/],
    ['an unknown key', 'v', { ...spec, sise: 3 }, 400, /sise/],
    ['a role that there is not', 'v', { ...spec, role: 'king' }, 400, /role/],
    [
      'two mirrors of one name',
      'v',
      {
        ...spec,
        mirrors: [
          { name: 'm', address: 'h:1', mode: 'synchronous' },
          { name: 'm', address: 'h:2', mode: 'synchronous' },
        ],
      },
      400,
      /same name/,
    ],
  ])('%s', async (_, name, body, status, message) => {
    const answer = await put(agents.a, `/v1/volumes/${name}`, body);
    expect(answer.status).toBe(status);
    expect(JSON.stringify(answer.body)).toMatch(message);
    expect(await agents.a.poolContents()).toEqual([]);
  });

  test('a standby does not serve the live volume, and a second primary of one epoch is refused by the first', async () => {
    await agents.mirrored();
    await expect(client(agents.b)).rejects.toThrow(/standby/);
    const rival = await put(agents.b, '/v1/volumes/pv-1', {
      size: sizeBytes,
      pool: 'main',
      role: 'primary',
      epoch: 1,
      uid: 'uid-1',
    });
    expect(rival.status).toBe(409);
    expect(rival.body.detail).toMatch(/higher epoch/);
  });

  test('a mirror to its own node is never in sync, and says why', async () => {
    const mirrors = [{ name: 'self', address: agents.a.mirrorAddress, mode: 'synchronous' }];
    expectOk(await put(agents.a, `/v1/volumes/${volume}`, { ...spec, mirrors }));
    await waitFor(async () => (await view(agents.a)).mirrors[0]?.lastError?.includes('primary') === true, {
      timeoutMs: 30_000,
    });
    expectOk(await call(agents.a, 'DELETE', `/v1/volumes/${volume}`));
    expect(await agents.a.poolContents()).toEqual([]);
  });

  test('a volume in use is not deleted', async () => {
    expectOk(await put(agents.a, `/v1/volumes/${volume}`, spec));
    const nbd = await client(agents.a);
    const refused = await call<Problem>(agents.a, 'DELETE', `/v1/volumes/${volume}`);
    expect(refused.status).toBe(409);
    expect(refused.body.detail).toMatch(/clients of its live export/);
    nbd.close();
    await waitFor(async () => (await view(agents.a)).attached === false, { timeoutMs: 10_000 });
    expectOk(await call(agents.a, 'DELETE', `/v1/volumes/${volume}`));
    expect(await agents.a.poolContents()).toEqual([]);
  });
});
