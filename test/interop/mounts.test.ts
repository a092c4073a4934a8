import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VolumeMount } from '../../agent/api/contract/mounts.ts';
import { readLoopDevices, readMounts } from '../../agent/attach/host-state.ts';
import { mountedAt } from '../../agent/attach/mount-table.ts';
import type { NodeMounts } from '../../agent/attach/node-mounts.ts';
import { leftovers, mountingImpossible, openMounts } from '../support/mount-host.ts';
import { ToolExportSource } from '../support/tool-export-source.ts';
import { waitFor } from '../support/wait-for.ts';

const impossible = await mountingImpossible();
const mebibyte = 1024 * 1024;
const fsTypes = ['ext4', 'xfs', 'btrfs'] as const;

let directory: string;
let source: ToolExportSource;
let mounts: NodeMounts;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-mounts-'));
  source = new ToolExportSource({ directory: join(directory, 'volumes') });
  await source.createVolume('vol', 400 * mebibyte);
  if (impossible === undefined) mounts = await openMounts(directory, source);
});

afterEach(async () => {
  // Also when a test fails, nothing may stay on the machine.
  if (impossible === undefined) {
    await source.killServers();
    for (const { volume, mount } of await mounts.list()) await mounts.unmount(volume, mount);
    await (await openMounts(directory, source)).recover();
    await source.killServers();
  }
  await rm(directory, { recursive: true, force: true });
});

function volumeMount(request: Partial<VolumeMount> = {}): VolumeMount {
  return { target: join(directory, 'live'), fsType: 'ext4', format: true, readOnly: false, options: [], ...request };
}

function snapshotTarget(): { target: string; options: string[] } {
  return { target: join(directory, 'snapshot'), options: [] };
}

async function mountedOptions(mountPoint: string): Promise<readonly string[]> {
  return mountedAt(await readMounts(), mountPoint)?.options ?? [];
}

describe.skipIf(impossible)(`mounting${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  test.each(fsTypes)('formats a blank volume with %s once, and finds its files again', async (fsType) => {
    const view = await mounts.mountVolume('vol', 'm', volumeMount({ fsType }));
    expect(view).toMatchObject({ volume: 'vol', mount: 'm', fsType, readOnly: false, target: join(directory, 'live') });
    expect(await mounts.list()).toEqual([view]);
    await writeFile(join(directory, 'live', 'file'), 'content');
    await mounts.unmount('vol', 'm');
    expect(await mounts.list()).toEqual([]);
    expect(await leftovers(directory)).toEqual([]);
    await expect(access(join(directory, 'live'))).rejects.toThrow('ENOENT');

    await mounts.mountVolume('vol', 'm', volumeMount({ fsType }));
    expect(await readFile(join(directory, 'live', 'file'), 'utf8')).toBe('content');
    await mounts.unmount('vol', 'm');
  });

  test.each(fsTypes)(
    'mounts a snapshot of a mounted, dirty %s clean and read-only, beside its original',
    async (fsType) => {
      await mounts.mountVolume('vol', 'm', volumeMount({ fsType }));
      await writeFile(join(directory, 'live', 'synced'), 'a'.repeat(100_000));
      execFileSync('sync', ['-f', join(directory, 'live')]);
      // In the journal only: neither in its place nor lost.
      const file = await open(join(directory, 'live', 'logged'), 'w');
      await file.writeFile('b'.repeat(5_000));
      await file.sync();
      source.copyToSnapshot('vol', 's1');
      await file.close();

      const view = await mounts.mountSnapshot('vol', 's1', 'backup', snapshotTarget());

      expect(view).toMatchObject({ snapshot: 's1', fsType, readOnly: true });
      const target = join(directory, 'snapshot');
      expect(await readFile(join(target, 'synced'), 'utf8')).toBe('a'.repeat(100_000));
      expect(await readFile(join(target, 'logged'), 'utf8')).toBe('b'.repeat(5_000));
      await expect(writeFile(join(target, 'new'), '')).rejects.toThrow('EROFS');
      expect(await mountedOptions(target)).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
      expect(await source.overlays()).toHaveLength(1);

      await mounts.unmount('vol', 'backup');
      expect(await source.overlays()).toEqual([]);
      expect(await readFile(join(directory, 'live', 'logged'), 'utf8')).toBe('b'.repeat(5_000));
      await mounts.unmount('vol', 'm');
      expect(await leftovers(directory)).toEqual([]);
    },
  );

  test('what the scratch view of a mounted ext4 snapshot holds is a clean filesystem', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    await writeFile(join(directory, 'live', 'file'), 'content', { flush: true });
    source.copyToSnapshot('vol', 's1');
    const { device } = await mounts.mountSnapshot('vol', 's1', 'backup', snapshotTarget());
    const features = execFileSync('dumpe2fs', ['-h', device], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(features).not.toContain('needs_recovery');
    execFileSync('e2fsck', ['-fn', device], { stdio: 'ignore' });
    const dirty = execFileSync('dumpe2fs', ['-h', join(directory, 'volumes', 'vol@s1.raw')], { encoding: 'utf8' });
    expect(dirty).toContain('needs_recovery');
    expect(uuidOf(features)).toBe(uuidOf(dirty));
  });

  test('several mounts of one snapshot each have a scratch view of their own', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount({ fsType: 'xfs' }));
    source.copyToSnapshot('vol', 's1');
    const one = await mounts.mountSnapshot('vol', 's1', 'one', { target: join(directory, 'one'), options: [] });
    const two = await mounts.mountSnapshot('vol', 's1', 'two', { target: join(directory, 'two'), options: [] });
    expect(one.device).not.toBe(two.device);
    expect(await source.overlays()).toHaveLength(2);
  });

  test('the device has the block size and the size of the volume', async () => {
    const big = new ToolExportSource({ directory: join(directory, 'volumes'), blockSize: 4096 });
    const service = await openMounts(directory, big);
    const { device } = await service.mountVolume('vol', 'm', volumeMount());
    const name = device.slice('/dev/'.length);
    expect((await readFile(`/sys/block/${name}/queue/logical_block_size`, 'utf8')).trim()).toBe('4096');
    expect((await readFile(`/sys/block/${name}/loop/dio`, 'utf8')).trim()).toBe('1');
    expect((await readLoopDevices()).find((loop) => loop.device === device)?.sizeBytes).toBe(400 * mebibyte);
    await service.unmount('vol', 'm');
    await big.killServers();
  });

  test('a loop device that its last user left read-only is made writable', async () => {
    const before = await mounts.publishDevice('vol', 'raw', { target: join(directory, 'raw'), readOnly: false });
    execFileSync('blockdev', ['--setro', before.device]);
    await mounts.unmount('vol', 'raw');
    await mounts.mountVolume('vol', 'm', volumeMount());
    await writeFile(join(directory, 'live', 'file'), 'content');
  });

  test('a read-only raw device refuses writes', async () => {
    const target = join(directory, 'raw');
    await mounts.publishDevice('vol', 'raw', { target, readOnly: true });
    const write = () =>
      execFileSync('dd', ['if=/dev/zero', `of=${target}`, 'bs=4096', 'count=1', 'conv=notrunc,fsync'], {
        stdio: 'ignore',
      });
    expect(write).toThrow();
    await expect(
      mounts.publishDevice('vol', 'too', { target: join(directory, 'too'), readOnly: false }),
    ).rejects.toMatchObject({ code: 'Conflict' });
  });

  test('never formats a volume that holds anything, and says what it holds', async () => {
    execFileSync('mkfs.xfs', ['-q', source.volumeFile('vol')]);
    const attempt = mounts.mountVolume('vol', 'm', volumeMount({ fsType: 'ext4' }));
    await expect(attempt).rejects.toMatchObject({ code: 'Conflict', message: expect.stringContaining('type xfs') });
    const content = Buffer.alloc(40 * mebibyte, 'x');
    await source.createVolume('full', content.length);
    await writeFile(source.volumeFile('full'), content);
    const second = mounts.mountVolume('full', 'm', volumeMount({ fsType: 'ext4' }));
    await expect(second).rejects.toMatchObject({
      code: 'Conflict',
      message: expect.stringContaining('never formatted'),
    });
    expect((await readFile(source.volumeFile('full'))).equals(content)).toBe(true);
    expect(await leftovers(directory)).toEqual([]);
  });

  test('does not format a blank volume without being asked', async () => {
    const attempt = mounts.mountVolume('vol', 'm', volumeMount({ format: false }));
    await expect(attempt).rejects.toMatchObject({ code: 'Conflict', message: expect.stringContaining('blank') });
    expect(await source.isBlank('vol')).toBe(true);
    expect(await leftovers(directory)).toEqual([]);
  });

  test('a format that fails without writing leaves the volume to be formatted later', async () => {
    await source.createVolume('vol', 16 * mebibyte);
    const attempt = mounts.mountVolume('vol', 'm', volumeMount({ fsType: 'xfs' }));
    await expect(attempt).rejects.toMatchObject({ message: expect.stringContaining('no xfs filesystem') });
    await mounts.mountVolume('vol', 'm', volumeMount({ fsType: 'ext4' }));
  });

  test('the same mount again is the same view; concurrently, too', async () => {
    const views = await Promise.all([1, 2, 3].map(() => mounts.mountVolume('vol', 'm', volumeMount())));
    expect(new Set(views.map((view) => view.device)).size).toBe(1);
    const table = (await readMounts()).filter((entry) => entry.mountPoint === join(directory, 'live'));
    expect(table).toHaveLength(1);
  });

  test('the same name with another target, type or access is a conflict', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    const others = [{ target: join(directory, 'other') }, { fsType: 'xfs' as const }, { readOnly: true }];
    for (const other of others) {
      await expect(mounts.mountVolume('vol', 'm', volumeMount(other))).rejects.toMatchObject({ code: 'Conflict' });
    }
    source.copyToSnapshot('vol', 's1');
    const snapshot = mounts.mountSnapshot('vol', 's1', 'm', { target: join(directory, 'live'), options: [] });
    await expect(snapshot).rejects.toMatchObject({ code: 'Conflict' });
  });

  test('a target that is a mount point, or another mount, is in use', async () => {
    await source.createVolume('other', 100 * mebibyte);
    await mkdir(join(directory, 'taken'));
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(directory, 'taken')]);
    try {
      const attempt = mounts.mountVolume('vol', 'm', volumeMount({ target: join(directory, 'taken') }));
      await expect(attempt).rejects.toMatchObject({ code: 'InUse', message: expect.stringContaining('tmpfs') });
    } finally {
      execFileSync('umount', [join(directory, 'taken')]);
    }
    const results = await Promise.allSettled(
      ['vol', 'other'].map((volume) => mounts.mountVolume(volume, 'm', volumeMount())),
    );
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected']);
    const rejected = results.find((result) => result.status === 'rejected');
    expect(rejected?.reason).toMatchObject({ code: 'InUse' });
  });

  test('a live volume mounted twice is one device and one filesystem', async () => {
    const one = await mounts.mountVolume('vol', 'one', volumeMount({ target: join(directory, 'one') }));
    const two = await mounts.mountVolume('vol', 'two', volumeMount({ target: join(directory, 'two'), readOnly: true }));
    expect(two.device).toBe(one.device);
    await writeFile(join(directory, 'one', 'file'), 'seen');
    expect(await readFile(join(directory, 'two', 'file'), 'utf8')).toBe('seen');
    await expect(writeFile(join(directory, 'two', 'file'), '')).rejects.toThrow('EROFS');
    await mounts.unmount('vol', 'one');
    expect(await readFile(join(directory, 'two', 'file'), 'utf8')).toBe('seen');
    await mounts.unmount('vol', 'two');
    expect(await leftovers(directory)).toEqual([]);
  });

  test('unmounting while a process is in it names the process and changes nothing', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    const holder = spawn('sleep', ['1000'], { cwd: join(directory, 'live'), stdio: 'ignore' });
    await once(holder, 'spawn');
    const attempt = mounts.unmount('vol', 'm');
    const message = expect.stringContaining(`sleep (${holder.pid})`);
    await expect(attempt).rejects.toMatchObject({ code: 'InUse', message });
    expect(await mounts.list()).toHaveLength(1);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    await mounts.unmount('vol', 'm');
    expect(await leftovers(directory)).toEqual([]);
  });

  test('unmounting while a container still has it mounted is in use, and succeeds once that has ended', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    const container = spawn('unshare', [
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-c',
      'echo ready; exec sleep 1000',
    ]);
    await once(container.stdout, 'data');
    await expect(mounts.unmount('vol', 'm')).rejects.toMatchObject({
      code: 'InUse',
      message: expect.stringMatching(/\([0-9]+, mounted at .*live\)/),
    });
    container.kill('SIGKILL');
    await once(container, 'exit');
    await mounts.unmount('vol', 'm');
    expect(await leftovers(directory)).toEqual([]);
  });

  test('unmounting what is not mounted is no error', async () => {
    await mounts.unmount('vol', 'nothing');
    await mounts.unmount('no-such-volume', 'nothing');
  });

  test('a volume or snapshot that does not exist is not found, and leaves nothing', async () => {
    await expect(mounts.mountVolume('nothing', 'm', volumeMount())).rejects.toMatchObject({ code: 'NotFound' });
    const snapshot = mounts.mountSnapshot('vol', 'nothing', 'm', snapshotTarget());
    await expect(snapshot).rejects.toMatchObject({ code: 'NotFound' });
    expect(await leftovers(directory)).toEqual([]);
    expect(await mounts.list()).toEqual([]);
  });

  test('a snapshot without a filesystem cannot be mounted, and leaves nothing', async () => {
    source.copyToSnapshot('vol', 's1');
    const attempt = mounts.mountSnapshot('vol', 's1', 'm', snapshotTarget());
    await expect(attempt).rejects.toMatchObject({
      code: 'Conflict',
      message: expect.stringContaining('holds nothing'),
    });
    expect(await leftovers(directory)).toEqual([]);
    expect(await source.overlays()).toEqual([]);
  });

  test('a mount whose NBD server has died is undone and made anew by the next request', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    const before = (await readLoopDevices()).find((loop) => loop.backingFile.startsWith(directory));
    const nbdfuse = execFileSync('pgrep', ['-f', `nbdfuse.*${directory}`], { encoding: 'utf8' })
      .trim()
      .split('\n');
    for (const pid of nbdfuse) process.kill(Number(pid), 'SIGKILL');
    await expect(
      waitFor(
        () =>
          access(before?.backingFile ?? '').then(
            () => false,
            () => true,
          ),
        { timeoutMs: 5_000 },
      ),
    ).resolves.toBe(true);
    const again = await mounts.mountVolume('vol', 'm', volumeMount());
    await writeFile(join(directory, 'live', 'file'), 'works');
    expect(again.target).toBe(join(directory, 'live'));
    await mounts.unmount('vol', 'm');
    expect(await leftovers(directory)).toEqual([]);
  });

  test('a raw volume is published as a device node, and not beside a filesystem', async () => {
    const target = join(directory, 'pod', 'device');
    await mounts.publishDevice('vol', 'raw', { target, readOnly: false });
    await expect(mounts.mountVolume('vol', 'm', volumeMount())).rejects.toMatchObject({ code: 'InUse' });
    execFileSync('dd', ['if=/dev/urandom', `of=${target}`, 'bs=4096', 'count=1', 'oflag=direct', 'conv=notrunc'], {
      stdio: 'ignore',
    });
    await mounts.unmount('vol', 'raw');
    expect(await source.isBlank('vol')).toBe(false);
    await expect(access(join(directory, 'pod'))).rejects.toThrow('ENOENT');
    expect(await leftovers(directory)).toEqual([]);
  });

  test('eviction takes the device away from whoever uses it', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    const file = await open(join(directory, 'live', 'file'), 'w');
    await mounts.evict('vol');
    expect(mounts.isAttached('vol')).toBe(false);
    expect(await mounts.list()).toEqual([]);
    const written = file.writeFile('x').then(() => file.sync());
    await expect(written).rejects.toThrow(/EIO|EROFS|ESHUTDOWN/);
    await file.close();
    await waitFor(async () => (await readLoopDevices()).every((loop) => !loop.backingFile.includes('vol-')), {
      timeoutMs: 10_000,
    });
    expect(await leftovers(directory)).toEqual([]);
  });

  test('a snapshot is taken away from whoever reads it, and the live volume stays', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    await writeFile(join(directory, 'live', 'file'), 'content');
    await mounts.unmount('vol', 'm');
    source.copyToSnapshot('vol', 's');
    await mounts.mountVolume('vol', 'm', volumeMount());
    await mounts.mountSnapshot('vol', 's', 'backup', snapshotTarget());
    const reader = await open(join(directory, 'snapshot'), 'r');
    await mounts.takeSnapshotsAway('vol');
    await reader.close();
    expect((await mounts.list()).map(({ mount }) => mount)).toEqual(['m']);
    await expect(readFile(join(directory, 'snapshot', 'file'))).rejects.toThrow();
    expect(await readFile(join(directory, 'live', 'file'), 'utf8')).toBe('content');
    await mounts.unmount('vol', 'm');
    await waitFor(async () => (await leftovers(directory)).length === 0, { timeoutMs: 10_000 });
  });

  test.each([
    ['that is fenced', undefined],
    ['of which there is a later epoch', { uid: 'uid-1', epoch: 2 }],
    ['that is another under the same name', { uid: 'uid-2', epoch: 1 }],
  ])('a volume %s loses its device, without anybody asking', async (_, binding) => {
    await mounts.recover();
    await mounts.mountVolume('vol', 'm', volumeMount());
    source.binding = binding;
    await waitFor(async () => (await mounts.list()).length === 0, { timeoutMs: 60_000 });
    expect(mounts.isAttached('vol')).toBe(false);
    expect(await leftovers(directory)).toEqual([]);
  });

  test('an orderly end unmounts what nobody uses', async () => {
    await mounts.mountVolume('vol', 'm', volumeMount());
    await mounts.close();
    expect(await leftovers(directory)).toEqual([]);
  });
});

function uuidOf(dumpe2fs: string): string | undefined {
  return /Filesystem UUID: +(\S+)/.exec(dumpe2fs)?.[1];
}
