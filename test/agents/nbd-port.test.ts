import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { freePorts } from '../kubernetes/control-plane/ports.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { ByteChannel } from '../support/byte-channel.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, expectOk, put, view, volume } from './cluster.ts';

let port: number;
let agent: AgentProcess;

beforeEach(async () => {
  [port = 0] = await freePorts(1);
  agent = await startAgent('node-a', 'none', (directory) => ({
    nbd: { directory: join(directory, 'nbd'), listen: `127.0.0.1:${port}`, exports: 'all' },
  }));
});
afterEach(() => agent.remove());

async function remote(exportName: string): Promise<NbdTestClient> {
  return NbdTestClient.over(await ByteChannel.connect(port), { exportName });
}

test("an agent's NBD port serves what its volumes' sockets serve, and its clients count as users and readers", async () => {
  const buffer = { pool: 'buffer', capacity: '64Mi' };
  expectOk(
    await put(agent, `/v1/volumes/${volume}`, { size: '16Mi', pool: 'main', role: 'primary', epoch: 1, buffer }),
  );
  const live = await remote(volume);
  expect((await view(agent)).attached).toBe(true);
  await live.write(0, Buffer.alloc(4096, 1));
  expect((await put(agent, `/v1/volumes/${volume}/snapshots/s`, {})).status).toBe(201);
  await live.write(0, Buffer.alloc(4096, 2));
  const snapshot = await remote(`${volume}@s`);
  expect(await snapshot.read(0, 4096)).toEqual(Buffer.alloc(4096, 1));
  expect((await view(agent)).snapshots[0]?.readers).toBe(1);
  snapshot.close();
  live.close();
  await waitFor(async () => (await view(agent)).snapshots[0]?.readers === 0, { timeoutMs: 10_000 });
  await waitFor(async () => !(await view(agent)).attached, { timeoutMs: 10_000 });
  expectOk(await call(agent, 'DELETE', `/v1/volumes/${volume}`));
  await expect(remote(volume)).rejects.toThrow(/no volume/);
});
