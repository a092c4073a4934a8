import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import koffi from 'koffi';
import { UnderstudyError } from '../common/errors.ts';

const flock = koffi.load(null).func('int flock(int fd, int operation)');
/** Source: flock(2). */
const LOCK_EX_NB = 2 | 4;

const fileName = 'agent.lock';

/**
 * Keeps a second agent out of a state directory. The lock is the kernel's, on an open file, so it ends with the process
 * however that ends, and a file that is left behind means nothing. Its content, the pid of the owner, is for people.
 */
export class StateLock {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Makes the directory if it is missing.
   * @throws UnderstudyError InUse if another agent has the lock
   */
  static async acquire(stateDirectory: string): Promise<StateLock> {
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
    const path = join(stateDirectory, fileName);
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      if (flock(file.fd, LOCK_EX_NB) !== 0) await refuse(file, path);
      await file.truncate();
      await file.write(`${process.pid}\n`, 0);
      return new StateLock(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async release(): Promise<void> {
    await this.#file.close();
  }
}

async function refuse(file: FileHandle, path: string): Promise<never> {
  const errno = koffi.errno();
  if (errno !== koffi.os.errno.EAGAIN) {
    throw new UnderstudyError('Io', `cannot lock ${path}: errno ${errno}`);
  }
  const owner = (await file.readFile('utf8')).trim();
  const who = owner === '' ? 'another agent' : `another agent (pid ${owner})`;
  throw new UnderstudyError('InUse', `${who} uses the state directory already: it holds ${path}; stop it first`);
}
