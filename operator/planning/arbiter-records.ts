import type { ArbiterRecord } from '../../agent/api/contract/arbiter-record.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';

/**
 * What the operator makes of the record in `status.arbiter`. Each of these is written under the resourceVersion of the
 * object that it was decided from: a compare-and-swap. Pure.
 */
interface Place {
  readonly node: string;
  readonly copy: string;
}

/** Of a volume that has none yet. No copy is in sync until the primary says so. */
export function firstRecord({ node, copy }: Place, epoch: number): ArbiterRecord {
  return { revision: 1, epoch, since: epoch, node, copy, copies: [], divergent: [] };
}

/** Someone has promoted a copy at its agent: the record follows. What the old primary wrote meanwhile, nobody knows. */
export function followedRecord(record: ArbiterRecord, place: Place, epoch: number): ArbiterRecord {
  const lost = isInSync(record, place.copy) ? [] : [record.copy];
  return next(record, place, epoch, lost);
}

/**
 * Another primary: every other copy counts as Outdated from here on, because nothing is said of it in this epoch (rule 1).
 * `lossFrom`: the new primary may miss what was acknowledged from this epoch on, so whoever was primary since has something
 * that it lacks. `readersEnd`: nobody reads on.
 */
export function promotedRecord(
  record: ArbiterRecord,
  place: Place,
  epoch: number,
  { lossFrom, readersEnd }: { readonly lossFrom?: number | undefined; readonly readersEnd: boolean },
): ArbiterRecord {
  const lossAccepted = lossFrom !== undefined;
  const superseded = record.superseded?.filter((entry) => !lossAccepted || entry.epoch < lossFrom);
  const promoted = next({ ...record, superseded }, place, epoch, lossAccepted ? [record.copy] : []);
  return { ...promoted, ...(lossAccepted ? { lossAccepted } : {}), ...(readersEnd ? { readersEnd } : {}) };
}

/** A newer epoch for the same primary, so that a standby that was prepared in vain takes part again. */
export function renewedRecord(record: ArbiterRecord, epoch: number): ArbiterRecord {
  return { ...record, revision: record.revision + 1, epoch, copies: [] };
}

/** Someone has looked at what a copy had written alone, and gives it up. */
export function discardedRecord(record: ArbiterRecord, copy: string): ArbiterRecord {
  const divergent = record.divergent.filter((name) => name !== copy);
  const superseded = [
    ...(record.superseded ?? []).filter(({ name }) => name !== copy),
    { name: copy, epoch: record.epoch },
  ];
  return { ...record, revision: record.revision + 1, divergent, superseded };
}

/** Whether the record says that this copy holds every write that is acknowledged, in the record's own epoch. */
export function isInSync(record: ArbiterRecord | undefined, copy: string): boolean {
  return (
    record?.copies.some(({ name, state, epoch }) => name === copy && state === 'InSync' && epoch === record.epoch) ??
    false
  );
}

/**
 * Whether a copy that was the primary until this epoch has nothing acknowledged that its successors lack. One of which the
 * record never knew, or which was followed by a copy that may miss something, may have.
 */
export function isSuperseded({ superseded, divergent }: ArbiterRecord, copy: string, epoch: number): boolean {
  if (divergent.includes(copy)) return false;
  return superseded?.some((entry) => entry.name === copy && epoch <= entry.epoch) ?? false;
}

/** Where the agents find the record. */
export function arbiterKeyOf({ metadata }: PrimaryVolume): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function next(record: ArbiterRecord, { node, copy }: Place, epoch: number, lost: readonly string[]): ArbiterRecord {
  const divergent = [...new Set([...record.divergent, ...lost])].filter((name) => name !== copy).sort();
  const known = (record.superseded ?? []).filter(({ name }) => name !== copy && name !== record.copy);
  const followed =
    lost.includes(record.copy) || record.copy === copy ? [] : [{ name: record.copy, epoch: record.epoch }];
  const superseded = [...known, ...followed].sort((a, b) => (a.name < b.name ? -1 : 1));
  return { revision: record.revision + 1, epoch, since: epoch, node, copy, copies: [], superseded, divergent };
}
