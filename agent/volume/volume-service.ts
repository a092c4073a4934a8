import type { HoldRequest } from '../api/contract/filling.ts';
import type { GroupHoldRequest, GroupHoldView } from '../api/contract/groups.ts';
import type { RestoreRequest } from '../api/contract/restore.ts';
import type { SnapshotRequest } from '../api/contract/snapshots.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { PrepareResult, SnapshotView, VolumeSpec, VolumeView } from '../api/contract/volumes.ts';

/** What the agent's API does with volumes. Every failure is an UnderstudyError whose message can be shown to people. */
export interface VolumeService {
  list(): Promise<VolumeView[]>;
  /** @throws NotFound */
  get(volume: string): Promise<VolumeView>;
  /** Creates or changes a volume. @throws Invalid, Conflict (lower epoch, other uid, role change in the same epoch), NoSpace, NotFound (pool) */
  put(volume: string, spec: VolumeSpec): Promise<{ created: boolean; view: VolumeView }>;
  /** Removes this copy with its data and snapshots; a volume that is not there is no error. @throws InUse */
  delete(volume: string): Promise<void>;
  /** Durably refuses every epoch below the given one, drains and syncs. @throws NotFound, Conflict (not a standby, lower epoch) */
  prepare(volume: string, epoch: number): Promise<PrepareResult>;
  /**
   * Begins to compare the copies of a mirror, or of all mirrors, while the volume is in use. Progress and outcome are in
   * the view. @throws NotFound, Invalid (no mirrors), Conflict (a standby, or under way already), NotReady (not in sync)
   */
  verify(volume: string, request: VerificationRequest): Promise<VolumeView>;
  /** Ends a verification early; one that is not under way is no error. @throws NotFound, Conflict (a standby) */
  stopVerification(volume: string, mirror: string | undefined): Promise<void>;
  /**
   * Begins to put a volume back to what a snapshot holds, or answers how the restore of that name stands. Until it is done
   * the live volume is not offered. @throws NotFound, Conflict (a standby, another restore, written to since `before`),
   * InUse, NoSpace (the buffer), NotReady (the mirror is not in sync), Corrupt (the snapshot is lost)
   */
  restore(volume: string, request: RestoreRequest): Promise<VolumeView>;
  /** Leaves the volume as it is, half restored or not; without a restore under way, no error. @throws NotFound, Conflict (a standby) */
  giveUpRestore(volume: string): Promise<void>;
  /**
   * Holds the acknowledgements of writes for an attempt of a snapshot group, up to a deadline.
   * @throws NotFound, NotReady, Conflict (a standby, another attempt, or over already), Timeout (earlier writes wait)
   */
  holdAcknowledgements(volume: string, attempt: string, request: GroupHoldRequest): Promise<GroupHoldView>;
  /** Lets them go; again, answers how the attempt ended. @throws NotFound (the volume, or the attempt), NotReady */
  releaseAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView>;
  /** Takes a snapshot, or answers what became of an earlier request of that name. @throws NotReady, NoSpace, Conflict */
  putSnapshot(volume: string, snapshot: string, request: SnapshotRequest): Promise<SnapshotView>;
  /** @throws NotFound */
  getSnapshot(volume: string, snapshot: string): Promise<SnapshotView>;
  /**
   * Keeps a snapshot for the volume of that name, which is filled from it on the node that the request names: it is not
   * deleted, and may be read from there. @throws NotFound, NotReady, Corrupt, Conflict (of that name on another snapshot)
   */
  holdSnapshot(volume: string, snapshot: string, hold: string, request: HoldRequest): Promise<SnapshotView>;
  /** One that is not there is no error. */
  releaseSnapshot(volume: string, snapshot: string, hold: string): Promise<void>;
  /** A snapshot that is not there is no error. @throws InUse while it is mounted or read. */
  deleteSnapshot(volume: string, snapshot: string): Promise<void>;
}
