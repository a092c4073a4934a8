import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VolumeMount } from '../../agent/api/contract/mounts.ts';
import type { AttachableExport, ExportSource } from '../../agent/attach/export-source.ts';
import type { NodeMounts } from '../../agent/attach/node-mounts.ts';
import type { ExportProvider } from '../../agent/nbd/exports.ts';
import { NbdServer } from '../../agent/nbd/server.ts';
import { DiskDirectory } from '../../agent/store/disk-directory.ts';
import { FileDevice } from '../../agent/store/file-device.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { silentLog } from '../../common/log.ts';
import { mountingImpossible, openMounts } from '../support/mount-host.ts';

const impossible = await mountingImpossible();
const sizeBytes = 400 * 1024 * 1024;

/** The server and the mounts in one process, as in an agent: neither may ever wait for the other's thread. */
class OneVolume implements ExportSource, ExportProvider {
  readonly #socket: string;
  readonly #device: FileDevice;
  readonly #file: string;

  constructor(options: { socket: string; device: FileDevice; file: string }) {
    this.#socket = options.socket;
    this.#device = options.device;
    this.#file = options.file;
  }

  list(): string[] {
    return ['vol'];
  }

  async open() {
    const contexts = new Map();
    return { device: this.#device, readOnly: false, multiConn: true, contexts, close: async () => {} };
  }

  async liveExport(): Promise<AttachableExport> {
    const { blockSize } = this.#device;
    return { socket: this.#socket, exportName: 'vol', sizeBytes, blockSize, readOnly: false };
  }

  async liveBinding() {
    return { uid: undefined, epoch: 1 };
  }

  async isBlank(): Promise<boolean> {
    return (await stat(this.#file)).blocks === 0;
  }

  async openScratch(): Promise<never> {
    throw new UnderstudyError('NotFound', 'there are no snapshots here');
  }

  async releaseScratch(): Promise<void> {}
}

describe.skipIf(impossible)(`mounting from our own server${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let directory: string;
  let device: FileDevice;
  let server: NbdServer;
  let mounts: NodeMounts;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'understudy-own-'));
    const pool = await DiskDirectory.open(directory);
    const file = await pool.open('vol.raw', { create: { size: sizeBytes, space: 'sparse' } });
    device = new FileDevice({ file, blockSize: 4096, provisioning: 'sparse' });
    const path = join(directory, 'vol.sock');
    const volume = new OneVolume({ socket: path, device, file: join(directory, 'vol.raw') });
    server = await NbdServer.listen({ path, exports: volume, log: silentLog });
    mounts = await openMounts(directory, volume);
  });

  afterEach(async () => {
    await mounts.close();
    await server.close();
    await device.close();
    await rm(directory, { recursive: true, force: true });
  });

  test.each(['ext4', 'xfs', 'btrfs'] as const)(
    '%s keeps what was written, and is clean after unmounting',
    async (fsType) => {
      const target = join(directory, 'live');
      const request: VolumeMount = { target, fsType, format: true, readOnly: false, options: [] };
      await mounts.mountVolume('vol', 'm', request);
      // In processes of their own: this one has to go on serving them.
      await run('sh', [
        '-c',
        `head -c 50000000 /dev/urandom > ${target}/data && sha256sum < ${target}/data > ${target}/sum`,
      ]);
      await mounts.unmount('vol', 'm');
      await mounts.mountVolume('vol', 'm', { ...request, readOnly: true });
      await run('sh', ['-c', `sha256sum < ${target}/data | cmp - ${target}/sum`]);
      await mounts.unmount('vol', 'm');
      const check = { ext4: ['e2fsck', '-fn'], xfs: ['xfs_repair', '-n'], btrfs: ['btrfs', 'check'] }[fsType];
      execFileSync(check[0] ?? '', [...check.slice(1), join(directory, 'vol.raw')], { stdio: 'ignore' });
    },
  );
});

async function run(program: string, args: string[]): Promise<void> {
  const { stderr } = await promisify(execFile)(program, args);
  expect(stderr).toBe('');
}
