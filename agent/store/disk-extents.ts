import type { Extent } from '../core/block-device.ts';
import { errnoError } from './disk-error.ts';
import { errno, seekData, seekHole } from './syscalls.ts';

/**
 * Holes and data of a range of a file, by SEEK_DATA and SEEK_HOLE. Space that is allocated but was never written may
 * count as a hole: it reads as zeroes just the same. A file or device that cannot tell is data throughout.
 * @throws UnderstudyError Io
 */
export function seekExtents(fd: number, path: string, offset: number, length: number): Extent[] {
  const extents: Extent[] = [];
  const end = offset + length;
  let position = offset;
  while (position < end) {
    const data = dataAtOrAfter(fd, path, position, end);
    if (data > position) extents.push({ length: data - position, zero: true, hole: true });
    if (data === end) break;
    const hole = Math.min(holeAfter(fd, path, data), end);
    extents.push({ length: hole - data, zero: false, hole: false });
    position = hole;
  }
  return extents;
}

function dataAtOrAfter(fd: number, path: string, position: number, end: number): number {
  const data = seekData(fd, position);
  if (data >= 0) return Math.min(data, end);
  if (data === -errno.ENXIO) return end;
  if (data === -errno.EINVAL) return position;
  throw errnoError('find the data of', path, data);
}

function holeAfter(fd: number, path: string, data: number): number {
  const hole = seekHole(fd, data);
  if (hole > data) return hole;
  if (hole === -errno.EINVAL || hole === -errno.ENXIO) return Number.MAX_SAFE_INTEGER;
  throw errnoError('find the holes of', path, hole < 0 ? hole : -errno.EIO);
}
