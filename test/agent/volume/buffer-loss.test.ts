import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { volumeSpecSchema } from '../../../agent/api/contract/volumes.ts';
import { VolumeManager } from '../../../agent/volume/volume-manager.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { NbdTestClient } from '../../support/nbd-client.ts';

let folder: string;
let manager: VolumeManager;

const buffer = { pool: 'buffer', capacity: '16Mi' };
const spec = (changes: object = {}) =>
  volumeSpecSchema.parse({ size: '8Mi', pool: 'main', role: 'primary', epoch: 1, buffer, ...changes });

async function start(): Promise<void> {
  manager = await VolumeManager.start({
    pools: [
      { name: 'main', directory: join(folder, 'main') },
      { name: 'buffer', directory: join(folder, 'buffer') },
    ],
    nbdDirectory: join(folder, 'nbd'),
    mirrorListen: '127.0.0.1:0',
    tls: undefined,
    clock: systemClock,
    log: silentLog,
  });
  await manager.recovered;
}

async function write(value: number): Promise<void> {
  const client = await NbdTestClient.connect((await manager.get('v')).nbd, { exportName: 'v' });
  await client.write(0, Buffer.alloc(4096, value));
  await client.flush();
  await client.disconnect();
  await expect.poll(async () => (await manager.get('v')).attached, { timeout: 10_000 }).toBe(false);
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'buffer-loss-'));
  await start();
  await manager.put('v', spec());
});
afterEach(async () => {
  await manager.stop();
  rmSync(folder, { recursive: true });
});

test('a buffer that cannot be used costs the snapshots, visibly and for good, and never the volume', async () => {
  await write(1);
  expect((await manager.putSnapshot('v', 's', {})).state).toBe('Ready');
  await manager.stop();

  const place = join(folder, 'buffer', 'v');
  renameSync(place, join(folder, 'kept'));
  writeFileSync(place, 'a file in the way');
  await start();
  expect(await manager.get('v')).toMatchObject({
    state: 'Ready',
    snapshots: [],
    lastError: expect.stringMatching(/no snapshots, since the buffer cannot be used/),
  });
  await write(2);
  await manager.stop();

  // The buffer comes back as it was, but the volume has been written to without it.
  rmSync(place);
  renameSync(join(folder, 'kept'), place);
  await start();
  const [snapshot] = (await manager.get('v')).snapshots;
  expect(snapshot).toMatchObject({ name: 's', state: 'Invalid', valid: false, reason: expect.any(String) });
});

test('a buffer that is taken away goes with its snapshots, and can be given again', async () => {
  await manager.putSnapshot('v', 's', {});
  await manager.put('v', spec({ buffer: undefined }));
  expect((await manager.get('v')).buffer).toBeUndefined();
  await manager.put('v', spec());
  expect((await manager.get('v')).snapshots).toEqual([]);
  expect((await manager.putSnapshot('v', 's', {})).state).toBe('Ready');
});
