import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { routePath, routes } from '../../../agent/api/contract/routes.ts';
import { findPostgres, PostgresServer } from '../../support/postgres.ts';
import type { Bench } from '../bench-context.ts';
import { run } from '../command.ts';
import { createMirrored, startPair } from './mirrored.ts';
import { allocate } from './single.ts';

/** Of pgbench: 15 MB each. Its tables are larger than the server's cache, and fit the volume. */
const scale = '10';
const clients = ['--client=4', '--jobs=2'];

/** A PostgreSQL with the tables of pgbench. */
export interface Database {
  /** Transactions per second. */
  measure(seconds: number): Promise<number>;
}

/** On ext4 on a mirrored volume, mounted by the agent over FUSE, since that needs no driver of the kernel. */
export async function mirroredDatabase(bench: Bench): Promise<Database> {
  const pair = await startPair(bench, { attach: 'fuse' });
  const { primary, name } = await createMirrored(pair, 'db', bench.options.volumeBytes);
  const folder = await folderForPostgres(bench);
  const target = join(folder, 'mnt');
  const url = primary.url + routePath(routes.volumeMount, { volume: name, mount: 'm' });
  await request('PUT', url, { target, format: true });
  bench.cleanUp(() => request('DELETE', url));
  return database(bench, folder);
}

/** On ext4 on a loop device over a file. */
export async function loopDatabase(bench: Bench): Promise<Database> {
  const image = await allocate(join(await bench.folder('l'), 'disk.img'), bench.options.volumeBytes);
  const folder = await folderForPostgres(bench);
  const target = join(folder, 'mnt');
  await mkdir(target);
  await run(['mkfs.ext4', '-q', image]);
  await run(['mount', '-o', 'loop', image, target]);
  bench.cleanUp(async () => void (await run(['umount', target])));
  return database(bench, folder);
}

/** The server does not run as root: it has to reach its folder. */
async function folderForPostgres(bench: Bench): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'up-'));
  await chmod(folder, 0o755);
  bench.cleanUp(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function database(bench: Bench, folder: string): Promise<Database> {
  const socketDirectory = join(folder, 'socket');
  await mkdir(socketDirectory);
  const dataDirectory = join(folder, 'mnt', 'data');
  const server = new PostgresServer({ dataDirectory, socketDirectory, logFile: join(folder, 'postgres.log') });
  server.initialise();
  await server.start();
  bench.cleanUp(() => server.stop());
  const program = join(findPostgres() ?? '', 'pgbench');
  const connection = ['--host', socketDirectory, '--username', 'postgres', 'postgres'];
  await run([program, '--initialize', '--quiet', '--scale', scale, ...connection]);
  return {
    measure: async (seconds) => {
      const command = [program, ...clients, '--time', String(seconds), ...connection];
      bench.note(command.map((word) => word.replaceAll(dirname(socketDirectory), 'DIR')));
      await bench.settle();
      const { stdout } = await run(command);
      const figure = /^tps = ([\d.]+)/m.exec(stdout)?.[1];
      if (figure === undefined) throw new Error(`pgbench told no figure: ${stdout}`);
      return Number(figure);
    },
  };
}

async function request(method: string, url: string, body?: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method, ...(body ? { body: JSON.stringify(body), headers } : {}) });
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${await response.text()}`);
}
