import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StateLock } from '../../agent/state-lock.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-lock-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Another process that holds the lock until it is killed. */
async function lockElsewhere(state: string): Promise<ChildProcess> {
  const module = new URL('../../agent/state-lock.ts', import.meta.url).href;
  const script = `
    const { StateLock } = await import(${JSON.stringify(module)});
    await StateLock.acquire(${JSON.stringify(state)});
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return child;
}

test('a second agent is kept out and told who is in', async () => {
  const state = join(directory, 'a', 'b');
  const lock = await StateLock.acquire(state);
  await expect(StateLock.acquire(state)).rejects.toMatchObject({
    code: 'InUse',
    message:
      `another agent (pid ${process.pid}) uses the state directory already: ` +
      `it holds ${join(state, 'agent.lock')}; stop it first`,
  });
  await lock.release();
  await (await StateLock.acquire(state)).release();
});

test('another name of the same directory does not get around it', async () => {
  const lock = await StateLock.acquire(directory);
  await symlink(directory, `${directory}-link`);
  try {
    await expect(StateLock.acquire(`${directory}-link`)).rejects.toMatchObject({ code: 'InUse' });
  } finally {
    await rm(`${directory}-link`);
    await lock.release();
  }
});

test('the lock of a process ends with it, also by kill -9', async () => {
  const child = await lockElsewhere(directory);
  await expect(StateLock.acquire(directory)).rejects.toMatchObject({
    message: expect.stringContaining(`${child.pid}`),
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await (await StateLock.acquire(directory)).release();
});
