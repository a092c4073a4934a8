import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VerificationView } from '../../agent/api/contract/verification.ts';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { isInstalled } from '../support/programs.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, type Problem, sizeBytes, TwoAgents, uri, view, volume } from './cluster.ts';

let agents: TwoAgents;

beforeEach(async () => {
  agents = await TwoAgents.start();
  await agents.mirrored();
});
afterEach(() => agents.remove());

const mebibyte = 1024 * 1024;
const path = `/v1/volumes/${volume}/verify`;

/** Changes bytes of the standby's file behind its agent's back. */
async function damage(...offsets: number[]): Promise<void> {
  const file = await open(join(agents.b.pools.main ?? '', volume, 'data'), 'r+');
  for (const offset of offsets) {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, offset);
    await file.write(Buffer.from([(byte[0] ?? 0) ^ 0x80]), 0, 1, offset);
  }
  await file.close();
}

async function verification(): Promise<VerificationView | undefined> {
  return (await view(agents.a)).mirrors[0]?.verification;
}

async function ended(): Promise<VerificationView> {
  await waitFor(async () => (await verification())?.state !== 'Running', { timeoutMs: 60_000 });
  const found = await verification();
  if (!found) throw new Error('no verification');
  return found;
}

async function verify(body: object = {}): Promise<VerificationView> {
  expectOk(await call<VolumeView>(agents.a, 'POST', path, body));
  return ended();
}

describe.skipIf(!isInstalled('fio'))('while fio writes', () => {
  test('no equal block is taken for a different one, and each different one is found', async () => {
    const job = ['--name=job', '--ioengine=nbd', `--uri=${await uri(agents.a)}`, `--size=${12 * mebibyte}`];
    const load = ['--rw=randwrite', '--bsrange=4k-64k', '--iodepth=32', '--fsync=128', '--time_based', '--runtime=600'];
    const fio = spawn('fio', [...job, ...load], { stdio: 'ignore' });
    const exited = once(fio, 'exit');
    try {
      await waitFor(async () => (await view(agents.a)).attached, { timeoutMs: 30_000 });
      for (let round = 0; round < 3; round += 1) {
        expect(await verify()).toMatchObject({ state: 'Done', verifiedBytes: sizeBytes, differing: [] });
      }
      await damage(13 * mebibyte, 14 * mebibyte + 4095, 14 * mebibyte + 4096, sizeBytes - 1);
      const differing = [
        { offset: 13 * mebibyte, length: 4096 },
        { offset: 14 * mebibyte, length: 8192 },
        { offset: sizeBytes - 4096, length: 4096 },
      ];
      expect(await verify()).toMatchObject({ state: 'Done', differing, differingBytes: 16_384 });
      // Reported, and not repaired.
      expect(await verify()).toMatchObject({ state: 'Done', differing });
      expect(await verify({ mirror: 'm', repair: true })).toMatchObject({ state: 'Done', differing });
      await waitFor(async () => (await view(agents.a)).mirrors[0]?.state !== 'InSync', {
        timeoutMs: 30_000,
        intervalMs: 5,
      });
      await agents.inSync();
      expect(fio.exitCode).toBeNull();
      expect(await verify()).toMatchObject({ state: 'Done', differing: [] });
    } finally {
      fio.kill('SIGKILL');
      await exited;
    }
  });
});

test('a verification ends with the mirror, is refused without it, and writes wait for it no more than before', async () => {
  const nbd = await client(agents.a);
  await nbd.write(0, Buffer.alloc(4096, 1));
  expect((await call(agents.a, 'POST', path, { bytesPerSecond: 4096 })).status).toBe(202);
  const second = await call<Problem>(agents.a, 'POST', path, {});
  expect(second).toMatchObject({ status: 409, body: { detail: expect.stringMatching(/being verified/) } });
  await agents.b.kill();
  expect(await ended()).toMatchObject({ state: 'Stopped', differing: [] });
  const refused = await call<Problem>(agents.a, 'POST', path, {});
  expect(refused).toMatchObject({ status: 503, body: { detail: expect.stringMatching(/not in sync/) } });
  await agents.b.start();
  await agents.inSync();
  await nbd.write(4096, Buffer.alloc(4096, 2));
  expect(await verify({ repair: true })).toMatchObject({ state: 'Done', differing: [] });
  expect((await content(agents.a)).subarray(4096, 8192)).toEqual(Buffer.alloc(4096, 2));
  nbd.close();
});

test('it can be stopped, and neither a standby nor an unknown mirror can be verified', async () => {
  expect((await call(agents.a, 'POST', path, { bytesPerSecond: 4096 })).status).toBe(202);
  expect((await call(agents.a, 'DELETE', path)).status).toBe(204);
  expect(await ended()).toMatchObject({ state: 'Stopped', reason: expect.stringMatching(/on request/) });
  expect((await call(agents.b, 'POST', path, {})).status).toBe(409);
  expect((await call(agents.a, 'POST', path, { mirror: 'x' })).status).toBe(404);
  expect((await call(agents.a, 'POST', path, { mirrors: ['m'] })).status).toBe(400);
});
