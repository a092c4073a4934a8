import type { Clock } from '../../common/clock.ts';
import type { Log } from '../../common/log.ts';
import type { MirrorSpec } from '../api/contract/volumes.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import type { Arbiter } from './arbiter.ts';
import type { Seal } from './journal-codec.ts';
import type { RateLimit } from './rate-limit.ts';
import type { RestoreMarker } from './restore-marker.ts';
import type { StreamJournal } from './stream-journal.ts';

/** Opens a connection to the mirror listener of a standby's agent, for one volume. */
export type Connector = (address: string, volume: string) => Promise<Connection>;

export interface VolumeIdentity {
  readonly volume: string;
  readonly uid: string | undefined;
  readonly epoch: number;
  readonly size: number;
  readonly blockSize: number;
}

export interface MirrorTiming {
  /** How long a standby may owe an answer before it counts as lost. */
  readonly acknowledgementTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly reconnectMs: number;
  readonly arbiterRetryMs: number;
  /**
   * How long a region must have had no write for its write-intent bit to be cleared. Longer: fewer writes wait for the
   * bitmap, and after a crash more is compared.
   */
  readonly coldRegionMs: number;
}

export const defaultTiming: MirrorTiming = {
  acknowledgementTimeoutMs: 10_000,
  heartbeatMs: 2_000,
  reconnectMs: 250,
  arbiterRetryMs: 1_000,
  coldRegionMs: 60_000,
};

/** What a primary keeps on disk about one mirror. */
export interface MirrorRecord {
  readonly name: string;
  /** The resync on which the standby's content is based; without it, everything may differ. */
  baseId?: string | undefined;
  /** The scan over the whole volume that this base began with has been finished. */
  scanned: boolean;
  /** See MirrorState.needed. */
  needed: boolean;
}

export interface MirrorLinkOptions {
  readonly identity: VolumeIdentity;
  readonly spec: MirrorSpec;
  readonly record: MirrorRecord;
  readonly base: BlockDevice;
  /** Regions that may differ because the primary stopped in the middle of writes. */
  readonly suspect: Iterable<Range>;
  /** On reads for resyncs and verifications. */
  readonly limit: RateLimit;
  readonly connect: Connector;
  readonly arbiter: Arbiter;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  /** A name for a new base, unlike any other. */
  readonly newBaseId: () => string;
  /** What the standby is told of a restore of the volume when it is in sync. */
  readonly restore?: (() => RestoreMarker | undefined) | undefined;
  readonly localWritePending: (range: Range) => boolean;
  /** Writes the records of all mirrors down; durable when it resolves. */
  readonly persist: () => Promise<void>;
  /** The ranges are compared at the next resync also if the primary crashes before it. */
  readonly markSuspect: (ranges: readonly Range[]) => Promise<void>;
  /** The standby knows a newer epoch, or the arbiter does. */
  readonly onFenced: (message: string) => void;
  /** Whether writes have to wait for this standby may have changed. */
  readonly onChange: () => void;
}

/** The journal of an asynchronous mirror, with what an orderly stop left in it. */
export interface OpenedJournal {
  readonly journal: StreamJournal;
  readonly seal: Seal | undefined;
}

/** Bytes of an asynchronous mirror's stream that are kept in memory. */
export const defaultQueueBytes = 32 * 1024 * 1024;

export interface AsyncMirrorOptions extends Omit<MirrorLinkOptions, 'suspect'> {
  /** Regions that may differ, as of now, since no sync of all copies has been confirmed. */
  readonly suspects: () => Iterable<Range>;
  readonly journal: OpenedJournal | undefined;
  readonly queueBytes: number;
  /** The source is the image of one moment. */
  readonly orderly: boolean;
  /** A standby that knows a newer epoch fences the source: it is a primary. */
  readonly fences: boolean;
}
