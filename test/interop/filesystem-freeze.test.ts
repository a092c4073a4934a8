import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readProcesses } from '../../agent/attach/host-state.ts';
import type { NodeMounts } from '../../agent/attach/node-mounts.ts';
import { mountingImpossible, openMounts } from '../support/mount-host.ts';
import { ToolExportSource } from '../support/tool-export-source.ts';
import { waitFor } from '../support/wait-for.ts';

const impossible = await mountingImpossible();
const longEnough = { timeoutMs: 60_000 };

let directory: string;
let live: string;
let source: ToolExportSource;
let mounts: NodeMounts;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-freeze-'));
  live = join(directory, 'live');
  source = new ToolExportSource({ directory: join(directory, 'volumes') });
  await source.createVolume('vol', 128 * 1024 * 1024);
  if (impossible === undefined) mounts = await openMounts(directory, source);
});

afterEach(async () => {
  if (impossible === undefined) {
    spawnSync('fsfreeze', ['--unfreeze', live]);
    await mounts.close();
    await (await openMounts(directory, source)).recover();
    await source.killServers();
  }
  await rm(directory, { recursive: true, force: true });
});

function mountLive(fsType: 'ext4' | 'btrfs' = 'ext4') {
  return mounts.mountVolume('vol', 'm', { target: live, fsType, format: true, readOnly: false, options: [] });
}

/** Freezing what is frozen fails with EBUSY. */
function isFrozen(): boolean {
  const { status, stderr } = spawnSync('fsfreeze', ['--freeze', live], { encoding: 'utf8' });
  if (status === 0) execFileSync('fsfreeze', ['--unfreeze', live]);
  else expect(stderr).toContain('busy');
  return status !== 0;
}

async function watchdogs(): Promise<number[]> {
  const processes = await readProcesses();
  return processes.filter(({ command }) => command[0] === '/bin/sh' && command.includes(live)).map(({ pid }) => pid);
}

/** A process of its own that has mounted the volume, and frozen it. */
async function frozenByAnother(options: { timeoutMs: number }): Promise<ChildProcess> {
  const support = join(import.meta.dirname, '..', 'support');
  const program = `
    import { openMounts } from ${JSON.stringify(join(support, 'mount-host.ts'))};
    import { ToolExportSource } from ${JSON.stringify(join(support, 'tool-export-source.ts'))};
    setInterval(() => {}, 60_000);
    const source = new ToolExportSource({ directory: ${JSON.stringify(join(directory, 'volumes'))} });
    const mounts = await openMounts(${JSON.stringify(directory)}, source);
    const request = { target: ${JSON.stringify(live)}, fsType: 'ext4', format: true, readOnly: false, options: [] };
    await mounts.mountVolume('vol', 'm', request);
    const { consistency } = await mounts.freeze('vol', ${JSON.stringify(options)});
    console.log(consistency);
  `;
  const agent = spawn(process.execPath, ['--input-type=module-typescript', '-e', program]);
  const [output] = await once(agent.stdout, 'data');
  expect(String(output)).toBe('filesystem\n');
  return agent;
}

async function killed(agent: ChildProcess): Promise<void> {
  const exit = once(agent, 'exit');
  agent.kill('SIGKILL');
  await exit;
}

describe.skipIf(impossible)(`freezing${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  test('holds a mounted filesystem until it is told to thaw', async () => {
    await mountLive();
    const quiesced = await mounts.freeze('vol', longEnough);
    expect(quiesced.consistency).toBe('filesystem');
    expect(isFrozen()).toBe(true);
    await quiesced.thaw();
    expect(quiesced.expired).toBe(false);
    expect(isFrozen()).toBe(false);
    await quiesced.thaw();
    await writeFile(join(live, 'file'), 'works');
    expect(await watchdogs()).toEqual([]);
  });

  test('thaws by itself when its time is up, and says so', async () => {
    await mountLive();
    const quiesced = await mounts.freeze('vol', { timeoutMs: 1_000 });
    expect(quiesced.consistency).toBe('filesystem');
    await waitFor(() => !isFrozen(), { timeoutMs: 10_000 });
    await quiesced.thaw();
    expect(quiesced.expired).toBe(true);
  });

  test('thaws when the agent is killed, and a write that waited goes on', async () => {
    const agent = await frozenByAnother({ timeoutMs: 3_600_000 });
    const waiting = spawn('sh', ['-c', `echo works > ${join(live, 'file')} && sync ${join(live, 'file')}`]);
    const written = once(waiting, 'exit');
    expect(isFrozen()).toBe(true);
    expect(waiting.exitCode).toBeNull();
    await killed(agent);
    await waitFor(() => !isFrozen(), { timeoutMs: 10_000 });
    expect(await written).toEqual([0, null]);
  });

  test('thaws when its time is up although the agent is stuck', async () => {
    const agent = await frozenByAnother({ timeoutMs: 1_000 });
    agent.kill('SIGSTOP');
    await waitFor(() => !isFrozen(), { timeoutMs: 10_000 });
    await killed(agent);
  });

  test('leaves nothing frozen when the watchdog is killed, and does not claim that it held', async () => {
    await mountLive('btrfs');
    const quiesced = await mounts.freeze('vol', longEnough);
    for (const pid of await watchdogs()) process.kill(pid, 'SIGKILL');
    await quiesced.thaw();
    expect(quiesced.expired).toBe(true);
    expect(isFrozen()).toBe(false);
  });

  test('signals that end other processes do not end the watchdog', async () => {
    await mountLive();
    const quiesced = await mounts.freeze('vol', longEnough);
    for (const pid of await watchdogs()) process.kill(pid, 'SIGTERM');
    expect(isFrozen()).toBe(true);
    await quiesced.thaw();
    expect(quiesced.expired).toBe(false);
  });

  test('what somebody else has frozen counts as not quiesced, and stays frozen', async () => {
    await mountLive();
    execFileSync('fsfreeze', ['--freeze', live]);
    const quiesced = await mounts.freeze('vol', longEnough);
    expect(quiesced.consistency).toBe('crash');
    await quiesced.thaw();
    expect(isFrozen()).toBe(true);
    execFileSync('fsfreeze', ['--unfreeze', live]);
  });

  test('a volume that nobody uses is quiesced, and cannot be mounted until it is let go', async () => {
    const quiesced = await mounts.freeze('vol', longEnough);
    expect(quiesced.consistency).toBe('filesystem');
    const order: string[] = [];
    const mounted = mountLive().then(() => order.push('mounted'));
    expect(mounts.isAttached('vol')).toBe(false);
    order.push('thaw');
    await quiesced.thaw();
    await mounted;
    expect(order).toEqual(['thaw', 'mounted']);
  });

  test('a volume in the middle of being mounted is not quiesced', async () => {
    const mounted = mountLive();
    expect((await mounts.freeze('vol', longEnough)).consistency).toBe('crash');
    await mounted;
    expect((await mounts.freeze('other', longEnough)).consistency).toBe('filesystem');
  });

  test('a raw device is not quiesced', async () => {
    await mounts.publishDevice('vol', 'raw', { target: join(directory, 'raw'), readOnly: false });
    const quiesced = await mounts.freeze('vol', longEnough);
    expect(quiesced.consistency).toBe('crash');
    await quiesced.thaw();
  });
});
