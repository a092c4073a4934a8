import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../support/random.ts';
import { call, client, content, type Problem, sizeBytes, TwoAgents, view, volume } from './cluster.ts';

let agents: TwoAgents;

beforeAll(async () => {
  agents = await TwoAgents.start();
  await agents.mirrored();
});
afterAll(() => agents.remove());

test('32 overlapping snapshots under random writes each read back exactly, and a 33rd is refused', async () => {
  const random = new Random(20_261_124);
  const model = Buffer.alloc(sizeBytes);
  const expected = new Map<string, Buffer>();
  const nbd = await client(agents.a);
  for (let index = 0; index < 32; index += 1) {
    for (let write = 0; write < 40; write += 1) {
      const length = 512 * (1 + random.below(64));
      const offset = 512 * random.below((sizeBytes - length) / 512);
      const data = Buffer.alloc(length, 1 + random.below(255));
      await nbd.write(offset, data);
      data.copy(model, offset);
    }
    const name = `s-${index}`;
    const { status, body } = await agents.snapshot(name);
    expect(status, body.detail).toBe(201);
    expected.set(name, Buffer.from(model));
  }
  for (const [name, bytes] of expected) {
    const read = await content(agents.b, `${volume}@${name}`);
    expect(read.equals(bytes), `snapshot ${name}`).toBe(true);
  }
  const refused = await agents.snapshot('s-33');
  expect(refused.status).toBe(507);
  expect(refused.body.detail).toMatch(/32/);

  // Deleted in the middle, what is left still reads as it did.
  for (let index = 0; index < 32; index += 2) {
    const deleted = await call(agents.b, 'DELETE', `/v1/volumes/${volume}/snapshots/s-${index}`);
    expect(deleted.status).toBe(204);
    expected.delete(`s-${index}`);
  }
  const data = Buffer.alloc(1024 * 1024, 0xee);
  for (let offset = 0; offset < sizeBytes; offset += data.length) await nbd.write(offset, data);
  await nbd.flush();
  for (const [name, bytes] of expected) {
    expect((await content(agents.b, `${volume}@${name}`)).equals(bytes), `snapshot ${name} later`).toBe(true);
  }
  nbd.close();
  expect((await view(agents.b)).snapshots).toHaveLength(16);
});

test('the same snapshot asked for again is the same snapshot', async () => {
  const first = await agents.snapshot('again');
  const second = await agents.snapshot('again');
  expect(first.status).toBe(201);
  expect(second.status).toBe(200);
  expect(second.body.takenAt).toBe(first.body.takenAt);
});

test('it names the hooks in force at its barrier, not those of whoever asks again, also after restarts', async () => {
  const first = await agents.snapshot('held', { hooks: 'first-attempt' });
  expect(first.body.hooks).toBe('first-attempt');
  const forgetful = async () => {
    for (const agent of [agents.a, agents.b]) {
      await agent.kill();
      await agent.start();
    }
    await agents.inSync();
  };
  for (const before of [async () => {}, forgetful]) {
    await before();
    const again = await agents.snapshot('held', { hooks: 'second-attempt' });
    expect(again.status, again.body.detail).toBeLessThan(300);
    expect(again.body).toMatchObject({ hooks: 'first-attempt', takenAt: first.body.takenAt });
  }
});

test('a snapshot of a mirror that there is not, and on a copy without a buffer, is refused with the reason', async () => {
  const path = `/v1/volumes/${volume}/snapshots/x`;
  const noMirror = await call<Problem>(agents.a, 'PUT', path, { mirror: 'nobody' });
  expect(noMirror.status).toBe(404);
  expect(noMirror.body.detail).toMatch(/no mirror nobody/);
  const noBuffer = await call<Problem>(agents.a, 'PUT', path, {});
  expect(noBuffer.status).toBe(400);
  expect(noBuffer.body.detail).toMatch(/no snapshot buffer/);
});
