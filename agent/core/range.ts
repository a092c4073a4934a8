import { UnderstudyError } from '../../common/errors.ts';

/** Bytes from `offset` (included) to `offset + length` (excluded). */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export function overlaps(a: Range, b: Range): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

/**
 * Checks a request against a device once, where it comes in, so that no layer below has to.
 * @throws UnderstudyError Invalid, naming what is wrong with the range.
 */
export function checkRange(device: { size: number; blockSize: number }, offset: number, length: number): void {
  const { size, blockSize } = device;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length <= 0) {
    throw new UnderstudyError('Invalid', `bad range: offset ${offset}, length ${length}`);
  }
  if (offset > size || length > size - offset) {
    throw new UnderstudyError('Invalid', `range ${offset}+${length} is past the end of the device (${size} bytes)`);
  }
  if (offset % blockSize !== 0 || length % blockSize !== 0) {
    throw new UnderstudyError('Invalid', `range ${offset}+${length} is not aligned to blocks of ${blockSize} bytes`);
  }
}
