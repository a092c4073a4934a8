import { assert } from '../../common/assert.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { allocationFlag } from './constants.ts';
import type { ContextExtent, ContextQuery } from './exports.ts';

/**
 * A first query asks for this much, and each that found little is followed by one for four times as much: the work is in
 * proportion to the answer, whether a device is one hole of terabytes or changes with every block.
 */
const firstQueryBytes = 256 * 1024;
const littleFound = 16;
/** After so many extents an answer ends: the client asks again from there. Keeps one request from holding up the rest. */
const enoughExtents = 4096;

/**
 * The status of a range: its beginning, up to about `wanted` extents, but at least the whole first one. Neighbours with
 * the same flags are one extent.
 */
export function collectStatus(
  query: ContextQuery,
  range: { offset: number; length: number },
  wanted: 'one' | 'many',
): ContextExtent[] {
  const { offset, length } = range;
  // The first extent is known to be complete when a second one has begun.
  const enough = wanted === 'one' ? 2 : enoughExtents;
  const found: ContextExtent[] = [];
  let coveredBytes = 0;
  let queryBytes = firstQueryBytes;
  while (coveredBytes < length && found.length < enough) {
    const askedBytes = Math.min(queryBytes, length - coveredBytes);
    const part = query(offset + coveredBytes, askedBytes);
    assert(totalLength(part) === askedBytes, 'the extents of a range cover it exactly');
    for (const extent of part) append(found, extent);
    coveredBytes += askedBytes;
    if (part.length <= littleFound) queryBytes *= 4;
  }
  return wanted === 'one' ? found.slice(0, 1) : found;
}

/** base:allocation of a device. */
export function allocationQuery(device: BlockDevice): ContextQuery {
  return (offset, length) =>
    device.extents(offset, length).map((extent) => ({
      length: extent.length,
      flags: (extent.hole ? allocationFlag.hole : 0) | (extent.zero ? allocationFlag.zero : 0),
    }));
}

function totalLength(extents: readonly ContextExtent[]): number {
  return extents.reduce((sum, extent) => sum + extent.length, 0);
}

function append(extents: ContextExtent[], extent: ContextExtent): void {
  const last = extents.at(-1);
  if (last?.flags === extent.flags)
    extents[extents.length - 1] = { length: last.length + extent.length, flags: last.flags };
  else extents.push(extent);
}
