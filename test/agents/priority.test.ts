import { readdir, readFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { expect, test } from 'vitest';
import { startAgent } from '../kubernetes/support/agent-process.ts';
import { expectOk, put } from './cluster.ts';

/** Priorities can be raised by root only. */
const isRoot = process.getuid?.() === 0;

/** Of each thread; see proc_pid_stat(5). */
async function nicenessOfThreads(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const stats = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/stat`, 'utf8')));
  // Counted from behind the name, which may contain anything.
  return stats.map((stat) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]));
}

test.skipIf(!isRoot)('an agent and the threads of its volumes go before what else computes on the node', async () => {
  const agent = await startAgent('node-a');
  try {
    const spec = { size: 1024 * 1024, pool: 'main', role: 'primary', epoch: 1 };
    expectOk(await put(agent, '/v1/volumes/v', spec));
    const all = new Set(await nicenessOfThreads(agent.pid));
    expect([...all]).toEqual([-10]);
    expect(getPriority()).toBeGreaterThan(-10);
  } finally {
    await agent.remove();
  }
});
