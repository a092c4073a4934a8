/** Volumes of one agent are strangers: what one of them waits for, no other does. On a disk that really stands still. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { routes } from '../../agent/api/contract/routes.ts';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { mountingImpossible } from '../support/mount-host.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { call, expectOk, put } from './cluster.ts';

const impossible = await mountingImpossible();
const size = 16 * 1024 * 1024;
const block = (value: number) => Buffer.alloc(4096, value);

describe.skipIf(impossible)(`a disk that stands still${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let agent: AgentProcess;
  let disk: string;

  beforeAll(async () => {
    agent = await startAgent('node-a', 'none', (directory) => {
      disk = join(directory, 'disk');
      const image = join(directory, 'disk.img');
      mkdirSync(disk);
      execFileSync('sh', [
        '-c',
        `truncate -s 128M ${image} && mkfs.ext4 -q ${image} && mount -o loop ${image} ${disk}`,
      ]);
      const folder = (name: string) => ({ name, directory: join(directory, name) });
      return { pools: [folder('main'), folder('buffer'), folder('disk')] };
    });
    for (const [name, pool] of [['still', 'disk'] as const, ['free', 'main'] as const]) {
      expectOk(await put(agent, `/v1/volumes/${name}`, { size, pool, role: 'primary', epoch: 1 }));
    }
  });

  afterAll(async () => {
    // A process that waits for a frozen disk does not die.
    execFileSync('sh', ['-c', `fsfreeze -u ${disk} 2>/dev/null; true`]);
    await agent?.kill();
    execFileSync('umount', [disk]);
    await agent?.remove();
  });

  async function client(name: string): Promise<NbdTestClient> {
    const { body } = await call<VolumeView>(agent, 'GET', `/v1/volumes/${name}`);
    return NbdTestClient.connect(body.nbd, { exportName: name });
  }

  test('holds up the volume on it, and neither another volume nor the API', async () => {
    const still = await client('still');
    const free = await client('free');
    await still.write(0, block(1));
    execFileSync('fsfreeze', ['-f', disk]);
    let answered = false;
    const held = still.write(4096, block(2)).then(() => {
      answered = true;
    });
    for (let index = 0; index < 200; index += 1) await free.write(index * 4096, block(index));
    await free.flush();
    expect((await free.read(4096, 4096)).equals(block(1))).toBe(true);
    expect((await call(agent, 'GET', routes.healthz)).status).toBe(200);
    const { body } = await call<VolumeView[]>(agent, 'GET', routes.volumes);
    expect(body.find(({ volume }) => volume === 'still')?.lastError).toMatch(/it may wait for its disk/);
    expect((await call<{ code: string }>(agent, 'GET', '/v1/volumes/still')).body.code).toBe('Timeout');
    expect(body.map(({ volume }) => volume).sort()).toEqual(['free', 'still']);
    const later = { size, pool: 'main', role: 'primary', epoch: 1 };
    expectOk(await put(agent, '/v1/volumes/later', later));
    expect(answered).toBe(false);

    execFileSync('fsfreeze', ['-u', disk]);
    await held;
    expect((await still.read(4096, 4096)).equals(block(2))).toBe(true);
    for (const each of [still, free]) each.channel.close();
  });
});
