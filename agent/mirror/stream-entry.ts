import { frameTypes } from './protocol.ts';

/**
 * One entry of an asynchronous mirror's stream, in the order in which the primary issued them:
 * - write, zero: a change of the volume; `payload` and `length` as in the frames of the same name.
 * - flush: the guest flushed here. The standby syncs before it goes on (rule 13).
 * - barrier: a snapshot is taken here; `payload` is the barrier's JSON.
 * - disorder, order: from here on the source is the image of no moment, since a resync overwrites it, and from here on it
 *   is again. Only a standby that is a source itself (a cascade) has them in its stream. `payload` is JSON.
 */
export interface StreamEntry {
  readonly type: EntryType;
  readonly flags: number;
  /** Bytes in the volume. */
  readonly offset: number;
  /** Bytes of the range, for zeroes. */
  readonly length: number;
  readonly payload: Uint8Array;
}

export const entryTypes = {
  write: frameTypes.write,
  zero: frameTypes.zero,
  flush: frameTypes.flush,
  barrier: frameTypes.barrier,
  disorder: frameTypes.resyncBegin,
  order: frameTypes.inSync,
} as const;

export type EntryType = (typeof entryTypes)[keyof typeof entryTypes];

const known: ReadonlySet<number> = new Set(Object.values(entryTypes));

export function isEntryType(type: number): type is EntryType {
  return known.has(type);
}

/** The longest range of zeroes in one entry: its length must fit 32 bits. */
export const maxZeroBytes = 1024 * 1024 * 1024;

/** What an entry in memory takes beyond its payload, roughly. */
export const overheadBytes = 256;
