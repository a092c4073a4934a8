import { assert } from '../../common/assert.ts';
import type { Differences } from './differences.ts';
import type { Welcome } from './messages.ts';
import type { MirrorRecord } from './mirror-link-options.ts';

/**
 * Decides what a resync begins with: the record of differences if the standby's content is based on what it speaks of,
 * else a scan over the whole volume and a new base. Changes the record, which is to be written down before the standby is
 * told.
 */
export function prepareBase(
  record: MirrorRecord,
  { baseId, blank }: Welcome,
  differences: Differences,
  newBaseId: () => string,
): { baseId: string; sameBase: boolean } {
  const sameBase = record.baseId !== undefined && record.baseId === baseId;
  if (!sameBase) {
    record.baseId = newBaseId();
    record.scanned = false;
    differences.startScan(blank);
  } else if (!record.scanned && !differences.scanning) {
    differences.startScan(false);
  }
  assert(record.baseId !== undefined, 'a resync has a base');
  return { baseId: record.baseId, sameBase };
}
