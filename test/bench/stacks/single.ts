import { join } from 'node:path';
import type { Bench } from '../bench-context.ts';
import { run } from '../command.ts';
import type { FileTarget, NbdTarget } from '../fio.ts';
import { BenchAgent } from './agent.ts';
import { startExport } from './daemon.ts';
import { fill } from './fill.ts';

export interface ServedFile {
  readonly target: NbdTarget;
  /** The file that holds the data. */
  readonly path: string;
}

/** A volume without mirrors and without a buffer. */
export function singleVolume(bench: Bench): Promise<ServedFile> {
  return bench.shared('single', async () => {
    const agent = await BenchAgent.start(bench, { node: 's' });
    const size = bench.options.volumeBytes;
    const { nbd } = await agent.client.putVolume('vol', { size, pool: 'main', role: 'primary', epoch: 1 });
    const target: NbdTarget = { kind: 'nbd', socket: nbd, exportName: 'vol', pids: () => [agent.pid] };
    await fill(bench, target);
    return { target, path: await dataFile(join(agent.folder, 'main'), size) };
  });
}

/** An image behind qemu-nbd, through the page cache. */
export function qemuNbd(bench: Bench): Promise<ServedFile> {
  return bench.shared('qemu-nbd', async () => {
    const folder = await bench.folder('q');
    const path = await allocate(join(folder, 'disk.img'), bench.options.volumeBytes);
    const target: NbdTarget = { kind: 'nbd', socket: join(folder, 'nbd.sock'), exportName: 'disk' };
    const daemon = await startExport(bench, 'qemu-nbd', folder, target.socket, [
      ...['qemu-nbd', '--persistent', '--shared=16', '--format=raw', '--cache=writeback', '--aio=io_uring'],
      ...['--discard=unmap', `--export-name=${target.exportName}`, `--socket=${target.socket}`, path],
    ]);
    await fill(bench, target);
    return { target: { ...target, pids: () => [daemon.pid] }, path };
  });
}

/** A file without anything before it. */
export function bareFile(bench: Bench): Promise<FileTarget> {
  return bench.shared('file', async () => {
    const path = await allocate(join(await bench.folder('f'), 'disk.img'), bench.options.volumeBytes);
    const target: FileTarget = { kind: 'file', path, engine: 'psync' };
    await fill(bench, target);
    return target;
  });
}

export async function allocate(path: string, bytes: number): Promise<string> {
  await run(['fallocate', '--length', String(bytes), path]);
  return path;
}

/** What a file holds is read from the disk next time. */
export async function dropCache(path: string): Promise<void> {
  await run(['dd', `if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
}

async function dataFile(folder: string, size: number): Promise<string> {
  const { stdout } = await run(['find', folder, '-type', 'f', '-size', `${size}c`]);
  const path = stdout.trim();
  if (path === '' || path.includes('\n')) throw new Error(`expected one file of ${size} bytes in ${folder}: ${stdout}`);
  return path;
}
