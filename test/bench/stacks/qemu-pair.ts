import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';
import { run } from '../command.ts';
import type { NbdTarget } from '../fio.ts';
import { startExport } from './daemon.ts';
import { fill } from './fill.ts';
import { QmpClient } from './qmp.ts';
import { allocate } from './single.ts';

/**
 * Two qemu-storage-daemons, of which the first mirrors every write of its export to the second before it answers
 * (blockdev-mirror, copy-mode=write-blocking), over NBD on a unix socket.
 */
export interface QemuPair {
  readonly target: NbdTarget;
  readonly standby: QemuDaemon;
}

export interface QemuDaemon {
  readonly folder: string;
  readonly target: NbdTarget;
  readonly qmp: QmpClient;
  readonly pid: number;
}

export function qemuPair(bench: Bench): Promise<QemuPair> {
  return bench.shared('qemu pair', async () => {
    const standby = await startQemu(bench);
    const primary = await startQemu(bench);
    await mirror(bench, primary, standby);
    await fill(bench, primary.target);
    return { target: { ...primary.target, pids: () => [primary.pid, standby.pid] }, standby };
  });
}

async function startQemu(bench: Bench): Promise<QemuDaemon> {
  const folder = await bench.folder('q');
  const image = await allocate(join(folder, 'disk.img'), bench.options.volumeBytes);
  const target: NbdTarget = { kind: 'nbd', socket: join(folder, 'nbd.sock'), exportName: 'disk' };
  const qmpSocket = join(folder, 'qmp.sock');
  const { pid } = await startExport(bench, 'qemu-storage-daemon', folder, qmpSocket, [
    'qemu-storage-daemon',
    ...['--chardev', `socket,id=qmp,path=${qmpSocket},server=on,wait=off`, '--monitor', 'chardev=qmp'],
    ...['--blockdev', `driver=file,node-name=file,filename=${image},aio=io_uring,cache.direct=off,discard=unmap`],
    ...['--blockdev', 'driver=raw,node-name=disk,file=file,discard=unmap'],
    ...['--nbd-server', `addr.type=unix,addr.path=${target.socket}`],
    ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
  ]);
  const qmp = await QmpClient.connect(qmpSocket);
  bench.cleanUp(async () => qmp.close());
  return { folder, target, qmp, pid };
}

async function mirror(bench: Bench, primary: QemuDaemon, standby: QemuDaemon): Promise<void> {
  const { socket, exportName } = standby.target;
  const node = { driver: 'nbd', 'node-name': 'target', server: { type: 'unix', path: socket }, export: exportName };
  const job = { 'job-id': 'mirror', device: 'disk', target: 'target', sync: 'full', 'copy-mode': 'write-blocking' };
  await execute(bench, primary, 'blockdev-add', node);
  await execute(bench, primary, 'blockdev-mirror', job);
  await primary.qmp.jobEvent('BLOCK_JOB_READY', 'mirror');
}

/** From now on the standby keeps what is overwritten, in a qcow2 image with clusters of 64 KiB. */
export async function startFleecing(bench: Bench, { standby }: QemuPair): Promise<NbdTarget> {
  const image = join(standby.folder, 'fleece.qcow2');
  const create = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=64k', image];
  bench.note(create);
  await run([...create, String(bench.options.volumeBytes)]);
  const file = { driver: 'file', filename: image, aio: 'io_uring', cache: { direct: false } };
  const node = { driver: 'qcow2', 'node-name': 'fleece', file, backing: 'disk' };
  await execute(bench, standby, 'blockdev-add', node);
  const job = { 'job-id': 'fleece', device: 'disk', target: 'fleece', sync: 'none' };
  await execute(bench, standby, 'blockdev-backup', job);
  const exported = { type: 'nbd', id: 'fleece', 'node-name': 'fleece', name: 'fleece', writable: false };
  await execute(bench, standby, 'block-export-add', exported);
  return { ...standby.target, exportName: 'fleece' };
}

export async function stopFleecing(bench: Bench, { standby }: QemuPair): Promise<void> {
  await execute(bench, standby, 'block-export-del', { id: 'fleece', mode: 'hard' });
  await standby.qmp.jobEvent('BLOCK_EXPORT_DELETED', 'fleece');
  await execute(bench, standby, 'block-job-cancel', { device: 'fleece' });
  const noJob = async () => ((await standby.qmp.execute('query-block-jobs')) as unknown[]).length === 0;
  await waitFor(noJob, { timeoutMs: 60_000, what: 'the fleecing job to end' });
  await execute(bench, standby, 'blockdev-del', { 'node-name': 'fleece' });
  await rm(join(standby.folder, 'fleece.qcow2'));
}

async function execute(bench: Bench, { qmp }: QemuDaemon, command: string, parameters: object): Promise<void> {
  bench.note(['QMP', command, JSON.stringify(parameters)]);
  await qmp.execute(command, parameters);
}
