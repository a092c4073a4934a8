import type { UnderstudyError } from '../../common/errors.ts';
import type { MirrorSpec, MirrorView } from '../api/contract/volumes.ts';
import type { Range } from '../core/range.ts';
import type { Acknowledgement } from './acknowledgement.ts';
import type { Barrier, BarrierRecord } from './messages.ts';
import type { MirrorRecord } from './mirror-link-options.ts';

/** What a mirror device needs of one of its mirrors, synchronous or asynchronous. */
export interface Mirror {
  readonly spec: MirrorSpec;
  readonly record: MirrorRecord;
  /** Of the source, as the standby is told. */
  readonly epoch: number;
  /** Writes may not complete without this standby. */
  readonly needed: boolean;
  /** It is needed and cannot answer now: writes wait. */
  readonly suspends: boolean;
  /** The standby has everything that was forwarded, or is being sent it in order. */
  readonly inSync: boolean;
  start(): void;
  /** Ends the link, in good order: it can go on after a restart. */
  stop(): Promise<void>;
  /** Ends the link for good; nothing of it stays on the disk. */
  remove(): Promise<void>;
  /**
   * The standby is about to be no mirror any more of a volume that is in this epoch: once it cannot be promoted, nothing waits for it.
   * @throws UnderstudyError Fenced; Unavailable, then nothing has been changed
   */
  release(epoch: number): Promise<void>;
  /** The limit on resyncs, also on one that is under way. */
  limitResync(bytesPerSecond: number | undefined): void;
  /** The volume fails: what waits for the standby fails with it. */
  abandon(error: UnderstudyError): void;
  view(): MirrorView;
  /** Forwards a write that has been given to the local device. `acknowledgement` is there while the standby is needed. */
  forwardWrite(offset: number, data: Uint8Array, fua: boolean, acknowledgement: Acknowledgement | undefined): void;
  forwardZeroes(range: Range, keepAllocated: boolean, fua: boolean, acknowledgement: Acknowledgement | undefined): void;
  /** The guest flushes here. Completes `acknowledgement` when the standby has synced everything forwarded before. */
  flush(acknowledgement: Acknowledgement | undefined): void;
  /** A range of which the local device may hold something else than what was forwarded. */
  differs(range: Range): void;
  /** Takes a snapshot at this point of the write stream. @throws NotReady, and the standby's reason */
  barrier(barrier: Barrier): Promise<BarrierRecord>;
  /** Resolves when everything forwarded so far is on the standby's stable storage. Rejects when that cannot be told. */
  synced(): Promise<void>;
  /** From here on the source of this mirror is the image of no moment, or is again. */
  announce(what: Announcement): void;
}

export type Announcement = 'disorder' | 'order';
