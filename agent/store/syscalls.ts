import koffi from 'koffi';
import { UnderstudyError } from '../../common/errors.ts';

/**
 * The system calls that Node does not offer, bound to the C library of this process. Each returns what the call
 * returns, or the negative errno, so that callers compare numbers and allocate nothing on their fast path.
 *
 * Constants are those of Linux; see fallocate(2), lseek(2), readv(2).
 */
const library = koffi.load(null);
const nativePreadv2 = library.func('int64_t preadv2(int fd, void *vector, int count, int64_t offset, int flags)');
const nativeFallocate = library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const nativeLseek = library.func('int64_t lseek(int fd, int64_t offset, int whence)');
const nativePrctl = library.func(
  'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
);
const nativeDup = library.func('int dup(int fd)');

export const errno = {
  EINTR: koffi.os.errno.EINTR ?? 4,
  EIO: koffi.os.errno.EIO ?? 5,
  ENXIO: koffi.os.errno.ENXIO ?? 6,
  EAGAIN: koffi.os.errno.EAGAIN ?? 11,
  EINVAL: koffi.os.errno.EINVAL ?? 22,
  ENOSYS: koffi.os.errno.ENOSYS ?? 38,
  EOPNOTSUPP: koffi.os.errno.EOPNOTSUPP ?? 95,
} as const;

const RWF_NOWAIT = 0x8;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Modes of fallocate. KEEP_SIZE is set with the zeroing ones, so that none of them changes the size of a file. */
export const fallocateMode = { allocate: 0x00, punchHole: 0x02 | 0x01, zeroRange: 0x10 | 0x01 } as const;
export type FallocateMode = (typeof fallocateMode)[keyof typeof fallocateMode];

/** One struct iovec { void *base; size_t length }, reused: a call through koffi is over before the next begins. */
const vector = new BigUint64Array(2);

/**
 * Reads what the page cache holds, without ever waiting for a disk.
 * @returns bytes read (possibly fewer than asked), or the negative errno; -EAGAIN if it would have to wait.
 */
export function readCached(fd: number, target: Uint8Array, offset: number): number {
  vector[0] = koffi.address(target);
  vector[1] = BigInt(target.byteLength);
  return outcome(Number(nativePreadv2(fd, vector, 1, offset, RWF_NOWAIT)));
}

/** @returns 0 or the negative errno. */
export function fallocate(fd: number, mode: FallocateMode, offset: number, length: number): number {
  for (;;) {
    const result = outcome(nativeFallocate(fd, mode, offset, length));
    if (result !== -errno.EINTR) return result;
  }
}

/** The same on a thread of its own, for ranges that may take the file system long. */
export function fallocateLater(fd: number, mode: FallocateMode, offset: number, length: number): Promise<number> {
  return new Promise((resolve, reject) => {
    nativeFallocate.async(fd, mode, offset, length, (error: unknown, result: number) => {
      if (error) reject(error);
      else resolve(outcome(result));
    });
  });
}

/** The size in bytes of a file or block device (whose stat says 0), or the negative errno. Moves the file position. */
export function seekEnd(fd: number): number {
  return outcome(Number(nativeLseek(fd, 0, SEEK_END)));
}

/** The next byte at or after `offset` that is data, or -ENXIO if only a hole follows. Moves the file position. */
export function seekData(fd: number, offset: number): number {
  return outcome(Number(nativeLseek(fd, offset, SEEK_DATA)));
}

/** The next byte at or after `offset` that lies in a hole (the end of a file counts as one). Moves the file position. */
export function seekHole(fd: number, offset: number): number {
  return outcome(Number(nativeLseek(fd, offset, SEEK_HOLE)));
}

/**
 * A second descriptor of the same open file or socket, which whoever receives it closes.
 * @throws UnderstudyError Io
 */
export function duplicateDescriptor(fd: number): number {
  const result = outcome(nativeDup(fd));
  if (result < 0) throw new UnderstudyError('Io', `cannot duplicate descriptor ${fd}: ${errnoName(-result)}`);
  return result;
}

const PR_SET_IO_FLUSHER = 57;
const PR_GET_IO_FLUSHER = 58;

/**
 * Tells the kernel that this thread, and threads that it starts from now on, are part of the way to a disk: memory that
 * they allocate is never waited for by writing out pages, which might have to come to them. Programs that it executes are
 * told so as well. See PR_SET_IO_FLUSHER(2const).
 * @returns 0 or the negative errno; needs CAP_SYS_RESOURCE
 */
export function becomeIoFlusher(): number {
  return outcome(nativePrctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
}

/** Whether this thread is one; false also without the right to know. */
export function isIoFlusher(): boolean {
  return outcome(nativePrctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0)) === 1;
}

/** "ENOSPC" of 28, for messages. */
export function errnoName(value: number): string {
  for (const [name, known] of Object.entries(koffi.os.errno)) if (known === value) return name;
  return `errno ${value}`;
}

function outcome(result: number): number {
  return result < 0 ? -koffi.errno() : result;
}
