/** What a snapshot promises about its content. crash: as after a power cut. filesystem: the filesystem was frozen. */
export type SnapshotConsistency = 'crash' | 'filesystem';

/** What the record that the barrier made says about a snapshot; it never changes afterwards (rule 19). */
export interface SnapshotRecord {
  readonly name: string;
  /** RFC 3339 time of the barrier. */
  readonly takenAt: string;
  readonly consistency: SnapshotConsistency;
  /** Kept by the product for itself (a mirror's safety snapshot): not counted, not listed by default, evicted last. */
  readonly internal: boolean;
  /** Which attempt to take it succeeded, so that a retry does not claim what an earlier one made. */
  readonly attempt?: string;
  /** What the one who ordered it calls the time in which he holds applications still; not interpreted. */
  readonly hooks?: string;
}

export interface TakeSnapshotOptions {
  /** RFC 3339 time of the barrier. */
  readonly takenAt: string;
  /** "crash" unless the filesystem was frozen at this very moment. */
  readonly consistency?: SnapshotConsistency;
  readonly internal?: boolean;
  readonly attempt?: string;
  readonly hooks?: string | undefined;
}

/** Pending: the barrier is passed, but not everything before it is on stable storage yet. */
export type SnapshotState = 'Pending' | 'Ready' | 'Invalid';

export interface SnapshotInfo extends SnapshotRecord {
  readonly state: SnapshotState;
  /** Size of the volume at the barrier, in bytes. */
  readonly sizeBytes: number;
  /** Bytes of the buffer that this snapshot reads, its own and shared ones. */
  readonly bufferBytes: number;
  /** Bytes of the buffer that deleting it would free. */
  readonly exclusiveBytes: number;
  /** Devices over it that are open now. */
  readonly readers: number;
  /** Why it is Invalid, for people. */
  readonly reason?: string;
}

export interface BufferUsage {
  /** Bytes of preserved data, in whole chunks. */
  readonly usedBytes: number;
  readonly capacityBytes: number;
  readonly maxSnapshots: number;
  /** Why the buffer can take no more snapshots: its disk failed for good, or does not answer. */
  readonly failure?: string;
}

/** A stretch of a volume that did (or certainly did not) change since a snapshot. */
export interface ChangedExtent {
  readonly length: number;
  readonly dirty: boolean;
}
