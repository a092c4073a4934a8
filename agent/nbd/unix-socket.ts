import { chmod, lstat, mkdtemp, rename, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { systemErrorCode, UnderstudyError } from '../../common/errors.ts';

/** A server's place in the file system. */
export interface PrivateSocket {
  /** Stops listening and removes the socket file, unless another server has put its own there meanwhile. */
  close(): Promise<void>;
}

/** What a socket address holds on Linux, without its final NUL. */
const maxPathBytes = 107;

/**
 * Makes a server listen on a unix socket that only its owner can connect to, at no instant anyone else: it is bound in
 * a directory of its own, and moved to its path when its mode is right. That also replaces a stale socket file in one
 * step.
 * @throws UnderstudyError InUse when another server answers there, Conflict when the path is no socket, Invalid.
 */
export async function listenPrivately(server: Server, path: string): Promise<PrivateSocket> {
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new UnderstudyError('Invalid', `"${path}" is too long for a unix socket: at most ${maxPathBytes} bytes`);
  }
  await expectStale(path);
  const directory = await mkdtemp(join(dirname(path), '.n'));
  try {
    const bound = join(directory, 's');
    await listen(server, bound);
    await chmod(bound, 0o600);
    await rename(bound, path);
  } catch (error) {
    server.close();
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const { ino } = await lstat(path);
  return { close: () => closeServer(server, path, ino) };
}

async function expectStale(path: string): Promise<void> {
  const found = await lstatIfThere(path);
  if (!found) return;
  if (!found.isSocket()) throw new UnderstudyError('Conflict', `"${path}" is there already and is not a socket`);
  if (await answers(path)) throw new UnderstudyError('InUse', `another server listens on "${path}"`);
}

async function lstatIfThere(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function closeServer(server: Server, path: string, ino: number): Promise<void> {
  const found = await lstatIfThere(path);
  if (found?.ino === ino) await rm(path, { force: true });
  // The callback of close() waits for connections; those are ended by their sessions.
  server.close();
}
