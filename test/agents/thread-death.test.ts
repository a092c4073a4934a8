/** The thread of one volume dies, of something that nothing in it has foreseen: no other volume does, and it comes back. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { AgentProcess } from '../kubernetes/support/agent-process.ts';
import { runInThread } from '../support/inspected-process.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, client, content, expectOk, put, TwoAgents, view, volume } from './cluster.ts';

const block = (value: number) => Buffer.alloc(4096, value);
const timeoutMs = 60_000;

describe('the thread of a volume that dies', () => {
  let agents: TwoAgents;

  beforeAll(async () => {
    const before = process.env.NODE_OPTIONS;
    process.env.NODE_OPTIONS = `${before ?? ''} --inspect-port=127.0.0.1:0`;
    try {
      agents = await TwoAgents.start();
    } finally {
      if (before === undefined) delete process.env.NODE_OPTIONS;
      else process.env.NODE_OPTIONS = before;
    }
    await agents.mirrored();
    for (const agent of [agents.a, agents.b]) {
      const spec = { size: 16 * 1024 * 1024, pool: 'main', role: 'primary', epoch: 1 };
      expectOk(await put(agent, '/v1/volumes/other', spec));
    }
  }, timeoutMs);

  afterAll(() => agents?.remove());

  async function otherVolume(agent: AgentProcess): Promise<NbdTestClient> {
    const { body } = await call<VolumeView>(agent, 'GET', '/v1/volumes/other');
    return NbdTestClient.connect(body.nbd, { exportName: 'other' });
  }

  async function die(agent: AgentProcess, script: string): Promise<void> {
    process.kill(agent.pid, 'SIGUSR1');
    const listening = /Debugger listening on (ws:\S+)/;
    const url = await waitFor(() => listening.exec(agent.logTail())?.[1], { timeoutMs, what: 'the debugger' });
    await runInThread(url, volume, script);
  }

  test(
    'of a primary: what was flushed is there, its standby follows again, another volume has noticed nothing',
    async () => {
      const { a, b } = agents;
      const other = await otherVolume(a);
      const before = await client(a);
      await before.write(0, block(1));
      await before.flush();
      const pid = a.pid;
      await die(a, 'setImmediate(() => { throw new Error("what nobody has thought of") })');
      const dead = await waitFor(async () => (await view(a)).lastError, { timeoutMs, intervalMs: 2 });
      expect(dead).toBe('what nobody has thought of; it is started again in 1 s');
      await other.write(0, block(7));
      await other.flush();
      expect((await other.read(0, 4096)).equals(block(7))).toBe(true);

      await agents.inSync();
      expect(a.pid).toBe(pid);
      const after = await client(a);
      expect((await after.read(0, 4096)).equals(block(1))).toBe(true);
      await after.write(4096, block(2));
      await after.flush();
      expect((await view(a)).state).toBe('Ready');
      expectOk(await agents.snapshot('after'));
      expect((await content(b, `${volume}@after`)).equals(await content(a))).toBe(true);
      other.channel.close();
      after.channel.close();
    },
    timeoutMs,
  );

  test(
    'of a standby: no write of the primary fails',
    async () => {
      const { a, b } = agents;
      const other = await otherVolume(b);
      const live = await client(a);
      await live.write(8192, block(3));
      await die(b, 'process.exit(1)');
      await live.write(12288, block(4));
      await live.flush();
      await other.write(0, block(8));
      expect((await other.read(0, 4096)).equals(block(8))).toBe(true);
      await agents.inSync();
      expectOk(await agents.snapshot('second'));
      expect((await content(b, `${volume}@second`)).equals(await content(a))).toBe(true);
      other.channel.close();
      live.channel.close();
    },
    timeoutMs,
  );
});
