import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VolumeMount } from '../../agent/api/contract/mounts.ts';
import { leftovers, mountingImpossible, openMounts } from '../support/mount-host.ts';
import { ToolExportSource } from '../support/tool-export-source.ts';
import { waitFor } from '../support/wait-for.ts';

const impossible = await mountingImpossible();
const child = fileURLToPath(new URL('../support/crashing-mounts.ts', import.meta.url));
/** A step that was not begun is a step before that was finished: that is covered, but for time, by dying in the next. */
const moments = process.env.UNDERSTUDY_EXHAUSTIVE === undefined ? ['during'] : ['before', 'during'];
const volumeSize = 64 * 1024 * 1024;

let directory: string;
let source: ToolExportSource;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-crash-'));
  source = new ToolExportSource({ directory: join(directory, 'volumes') });
  await source.createVolume('vol', volumeSize);
});

afterEach(async () => {
  if (impossible === undefined) {
    await source.killServers();
    await (await openMounts(directory, source)).recover();
    await source.killServers();
  }
  await rm(directory, { recursive: true, force: true });
});

/** Runs the scenario until it kills itself at a step; the name of that step, or undefined if it ended before. */
async function crashAt(scenario: string, step: number, moment: string): Promise<string | undefined> {
  const process_ = spawn(process.execPath, [child, directory, scenario, String(step), moment], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const output = process_.stdout.toArray();
  const [code, signal] = await once(process_, 'exit');
  if (code === 0) return undefined;
  expect(signal).toBe('SIGKILL');
  return Buffer.concat(await output)
    .toString()
    .trim();
}

async function journalRecords(): Promise<unknown> {
  const file = await readFile(join(directory, 'state', 'attachments.json'), 'utf8').catch(() => undefined);
  return file === undefined ? undefined : JSON.parse(file).state;
}

function liveMount(): VolumeMount {
  return { target: join(directory, 'live'), fsType: 'ext4', format: true, readOnly: false, options: [] };
}

/** A process that mounts the volume and kills itself. */
async function mountAndDie(): Promise<void> {
  const support = join(import.meta.dirname, '..', 'support');
  const program = `
    import { openMounts } from ${JSON.stringify(join(support, 'mount-host.ts'))};
    import { ToolExportSource } from ${JSON.stringify(join(support, 'tool-export-source.ts'))};
    setInterval(() => {}, 60_000);
    const source = new ToolExportSource({ directory: ${JSON.stringify(join(directory, 'volumes'))} });
    const mounts = await openMounts(${JSON.stringify(directory)}, source);
    await mounts.mountVolume('vol', 'm', ${JSON.stringify(liveMount())});
    process.kill(process.pid, 'SIGKILL');
  `;
  const agent = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], { stdio: 'inherit' });
  expect(await once(agent, 'exit')).toEqual([null, 'SIGKILL']);
}

/** A snapshot of a mounted filesystem that has something in its journal. */
async function makeSnapshot(): Promise<void> {
  const mounts = await openMounts(directory, source);
  await mounts.mountVolume('vol', 'live', liveMount());
  await writeFile(join(directory, 'live', 'file'), 'content', { flush: true });
  source.copyToSnapshot('vol', 's1');
  await mounts.unmount('vol', 'live');
}

describe.skipIf(impossible)(`killed at any step${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  for (const scenario of ['volume', 'snapshot']) {
    for (const moment of moments) {
      test(`${moment} a step of mounting and unmounting a ${scenario}, a restarted agent leaves nothing behind`, async () => {
        if (scenario === 'snapshot') await makeSnapshot();
        const names: string[] = [];
        for (let step = 0; ; step += 1) {
          if (scenario === 'volume') await source.createVolume('vol', volumeSize);
          const name = await crashAt(scenario, step, moment);
          if (name === undefined) break;
          names.push(name);
          // The server of a killed agent dies with it. Left alive it is worse: what was under way succeeds after all.
          if (step % 2 === 0) await source.killServers();
          const restarted = await openMounts(directory, source);
          await restarted.recover();
          const where = `${moment} step ${step}, ${name}`;
          expect({ where, left: await leftovers(directory) }).toEqual({ where, left: [] });
          expect({ where, overlays: await source.overlays() }).toEqual({ where, overlays: [] });
          await expect(access(join(directory, 'target')), where).rejects.toThrow('ENOENT');
          const records = (await journalRecords()) ?? { mounts: [], attachments: [] };
          expect({ where, records }).toMatchObject({ where, records: { mounts: [], attachments: [] } });
        }
        const essential = ['journal', 'nbdfuse', 'losetup', 'blkid', 'mount', 'umount'];
        expect(names).toEqual(expect.arrayContaining(scenario === 'volume' ? [...essential, 'mkfs.ext4'] : essential));
        await source.killServers();
      }, 240_000);
    }
  }

  test('killed while formatting, the volume is not formatted again, and the error says why', async () => {
    const unfinished = {
      version: 1,
      sha256: '',
      state: {
        attachments: [],
        mounts: [],
        formats: [{ volume: 'vol', fsType: 'ext4', begunAt: '2026-01-01T00:00:00.000Z' }],
      },
    };
    unfinished.sha256 = await sha256(JSON.stringify(unfinished.state));
    const service = await openMounts(directory, source);
    await service.recover();
    await writeFile(join(directory, 'state', 'attachments.json'), JSON.stringify(unfinished));
    await writeFile(source.volumeFile('vol'), Buffer.alloc(volumeSize, 'x'));
    const mounts = await openMounts(directory, source);
    await mounts.recover();
    const attempt = mounts.mountVolume('vol', 'm', liveMount());
    await expect(attempt).rejects.toMatchObject({ code: 'Conflict', message: expect.stringContaining('not finished') });
    // Zeroed by hand, it is blank again.
    await source.killServers();
    await source.createVolume('vol', volumeSize);
    await mounts.mountVolume('vol', 'm', liveMount());
    await mounts.unmount('vol', 'm');
    expect(await journalRecords()).toEqual({ attachments: [], mounts: [], formats: [] });
  });

  test.each(['alive', 'dead'])('a mount that was left frozen is undone, its server %s', async (server) => {
    await mountAndDie();
    execFileSync('fsfreeze', ['--freeze', join(directory, 'live')]);
    if (server === 'dead') await source.killServers();
    await (await openMounts(directory, source)).recover();
    expect(await leftovers(directory)).toEqual([]);
  });

  test('without its journal, a restarted agent still finds what is attached', async () => {
    await mountAndDie();
    execFileSync('umount', [join(directory, 'live')]);
    await writeFile(join(directory, 'state', 'attachments.json'), '{"version":1,');
    await (await openMounts(directory, source)).recover();
    expect(await leftovers(directory)).toEqual([]);
    expect(await readFile(join(directory, 'state', 'attachments.json.damaged'), 'utf8')).toBe('{"version":1,');
  });

  test('a mount that processes still use is taken off, and their I/O fails', async () => {
    await mountAndDie();
    const pod = spawn('sh', ['-c', 'echo ready; read go; echo x > file && sync'], { cwd: join(directory, 'live') });
    await once(pod.stdout, 'data');
    await source.killServers();

    const mounts = await openMounts(directory, source);
    await mounts.recover();

    await expect(access(join(directory, 'live'))).rejects.toThrow('ENOENT');
    pod.stdin.end('go\n');
    const [code] = await once(pod, 'exit');
    expect(code).not.toBe(0);
    await waitFor(async () => (await leftovers(directory)).length === 0, { timeoutMs: 10_000 });
  });
});

async function sha256(text: string): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))).toString('hex');
}
