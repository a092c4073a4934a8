import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isInstalled } from '../support/programs.ts';
import { content, TwoAgents, uri, volume } from './cluster.ts';

let agents: TwoAgents;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'clients-'));
  agents = await TwoAgents.start();
  await agents.mirrored();
});
afterAll(async () => {
  await agents.remove();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a program in a scratch folder and answers with what it wrote. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { cwd: folder });
  return stdout;
}

const missing = ['qemu-io', 'nbdinfo', 'nbdcopy', 'fio'].filter((program) => !isInstalled(program));

describe.skipIf(missing.length > 0)('clients of others, on a mirrored volume and its snapshots', () => {
  test('fio verifies what it wrote; the snapshot is what the primary was, and stays it', async () => {
    const job = ['--name=job', '--ioengine=nbd', `--uri=${await uri(agents.a)}`, '--size=16m', '--verify=crc32c'];
    await run('fio', ...job, '--rw=randwrite', '--bs=4k', '--iodepth=32', '--fsync=64');
    const atBarrier = await content(agents.a);
    expect((await agents.snapshot('fio')).status).toBe(201);
    await run('fio', ...job, '--rw=randwrite', '--bs=64k', '--iodepth=8', '--randseed=2');
    const copy = join(folder, 'snapshot.raw');
    await run('nbdcopy', await uri(agents.b, `${volume}@fio`), copy);
    expect((await readFile(copy)).equals(atBarrier)).toBe(true);
  });

  test('qemu-io writes the volume, reads the snapshot, and cannot write to it', async () => {
    const live = await uri(agents.a);
    await run('qemu-io', '-f', 'raw', live, '-c', 'write -P 17 1M 64k', '-c', 'flush');
    expect((await agents.snapshot('qemu')).status).toBe(201);
    await run('qemu-io', '-f', 'raw', live, '-c', 'write -P 18 1M 64k', '-c', 'read -P 18 1M 64k');
    const snapshot = await uri(agents.b, `${volume}@qemu`);
    expect(await run('qemu-io', '-r', '-f', 'raw', snapshot, '-c', 'read -P 17 1M 64k')).not.toMatch(/failed/);
    await expect(run('qemu-io', '-f', 'raw', snapshot, '-c', 'write 0 4k')).rejects.toThrow();
  });

  test('nbdinfo lists the live volume at the primary, and only the snapshots at the standby', async () => {
    const names = async (of: string) => {
      const { exports } = JSON.parse(await run('nbdinfo', '--list', '--json', of));
      return exports.map((entry: { 'export-name': string }) => entry['export-name']);
    };
    expect(await names(await uri(agents.a, ''))).toEqual([volume]);
    const atStandby = await names(await uri(agents.b, `${volume}@fio`));
    expect(atStandby).toEqual([`${volume}@fio`, `${volume}@qemu`]);
  });

  test('what has changed since a snapshot is told in its dirty bitmap', async () => {
    await run('qemu-io', '-f', 'raw', await uri(agents.a), '-c', 'write -P 19 2M 64k', '-c', 'flush');
    expect((await agents.snapshot('newer')).status).toBe(201);
    const map = await run('nbdinfo', '--map=qemu:dirty-bitmap:qemu', '--json', await uri(agents.b, `${volume}@newer`));
    const dirty = JSON.parse(map).filter((extent: { type: number }) => extent.type === 1);
    const covers = (offset: number) =>
      dirty.some(
        (extent: { offset: number; length: number }) =>
          extent.offset <= offset && offset < extent.offset + extent.length,
      );
    expect([covers(1024 * 1024), covers(2 * 1024 * 1024), covers(8 * 1024 * 1024)]).toEqual([true, true, false]);
  });
});
