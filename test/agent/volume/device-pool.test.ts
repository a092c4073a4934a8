import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { volumeSpecSchema } from '../../../agent/api/contract/volumes.ts';
import { VolumeManager } from '../../../agent/volume/volume-manager.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { NbdTestClient } from '../../support/nbd-client.ts';

const mebibyte = 1024 * 1024;
const canMakeDevices = process.getuid?.() === 0;

let folder: string;
let devices: string[];
let manager: VolumeManager | undefined;

/** A loop device over a new file: as raw as a disk. */
function makeDevice(name: string, bytes: number): string {
  const file = join(folder, name);
  writeFileSync(file, '');
  truncateSync(file, bytes);
  return execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
}

async function start(): Promise<VolumeManager> {
  manager = await VolumeManager.start({
    pools: [
      { name: 'raw', devices, directory: join(folder, 'state') },
      { name: 'files', directory: join(folder, 'files') },
    ],
    nbdDirectory: join(folder, 'nbd'),
    mirrorListen: '127.0.0.1:0',
    tls: undefined,
    clock: systemClock,
    log: silentLog,
  });
  await manager.recovered;
  return manager;
}

function spec(changes: object = {}) {
  return volumeSpecSchema.parse({ size: 8 * mebibyte, pool: 'raw', role: 'primary', epoch: 1, ...changes });
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'devices-'));
  mkdirSync(join(folder, 'state'));
  devices = canMakeDevices ? [makeDevice('large', 32 * mebibyte), makeDevice('small', 16 * mebibyte)] : [];
});
afterEach(async () => {
  await manager?.stop();
  manager = undefined;
  for (const device of devices) execFileSync('losetup', ['--detach', device]);
  rmSync(folder, { recursive: true });
});

describe.skipIf(!canMakeDevices)('a pool of raw devices', () => {
  test('gives each volume the smallest free device that is large enough, and says of each why not', async () => {
    const volumes = await start();
    await volumes.put('a', spec());
    await expect(volumes.put('b', spec({ size: 64 * mebibyte }))).rejects.toThrow(
      `${devices[0]} has only 32Mi; ${devices[1]} belongs to volume a`,
    );
    await volumes.put('b', spec());
    await expect(volumes.put('c', spec())).rejects.toMatchObject({ code: 'NoSpace' });
    expect((await volumes.list()).map((view) => view.volume)).toEqual(['a', 'b']);
  });

  test('a volume is as large as was asked for, survives a restart, and leaves its device zeroed', async () => {
    let volumes = await start();
    const { view } = await volumes.put('a', spec());
    const client = await NbdTestClient.connect(view.nbd, { exportName: 'a' });
    expect(client.size).toBe(8 * mebibyte);
    await client.write(4096, Buffer.alloc(4096, 7));
    await client.flush();
    client.close();
    await volumes.stop();
    volumes = await start();
    const again = await NbdTestClient.connect((await volumes.get('a')).nbd, { exportName: 'a' });
    expect(await again.read(4096, 4096)).toEqual(Buffer.alloc(4096, 7));
    await again.disconnect();
    await expect.poll(async () => (await volumes.get('a')).attached, { timeout: 10_000 }).toBe(false);
    await volumes.delete('a');
    expect(readdirSync(join(folder, 'state'))).toEqual([]);
    await volumes.put('a', spec());
    expect(await volumes.isBlank('a')).toBe(true);
  });

  test('a device that holds something is never taken', async () => {
    for (const device of devices) execFileSync('mkfs.ext4', ['-q', '-F', device]);
    const volumes = await start();
    await expect(volumes.put('a', spec())).rejects.toThrow(/is not empty; wipe it/);
  });

  test('a device that has gone is missed, and nothing is made in its place', async () => {
    let volumes = await start();
    await volumes.put('a', spec());
    await volumes.stop();
    const link = join(folder, 'state', 'a', 'data');
    rmSync(link);
    symlinkSync(join(folder, 'gone'), link);
    volumes = await start();
    expect(await volumes.get('a')).toMatchObject({
      state: 'Failed',
      lastError: expect.stringMatching(/cannot open.*data/),
    });
    expect(existsSync(join(folder, 'gone'))).toBe(false);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  });

  test('holds no buffers', async () => {
    const volumes = await start();
    const buffer = { pool: 'raw', capacity: mebibyte };
    await expect(volumes.put('a', spec({ pool: 'files', buffer }))).rejects.toThrow(/needs a directory/);
  });
});
