import { CsiError } from '../../common/csi/csi-error.ts';
import type {
  CreateSnapshotRequest,
  Empty,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  SnapshotMessage,
} from '../../common/csi/messages.ts';
import { agentSnapshotName } from '../planning/snapshot-world.ts';
import { findCondition, isConditionTrue } from '../resources/conditions.ts';
import { type Snapshot, type SnapshotSpec, type SnapshotStatus, snapshots } from '../resources/snapshot.ts';
import { describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { parseId } from './csi-names.ts';
import { type CsiStore, checkMadeOverCsi } from './csi-store.ts';
import { pageOf } from './paging.ts';
import { snapshotSpec } from './snapshot-request.ts';
import type { VolumeCalls } from './volume-calls.ts';
import { checkName } from './volume-request.ts';

/** Reasons for which a snapshot does not come by itself. */
const hopeless: ReadonlySet<string> = new Set(['NoBuffer', 'Invalid', 'SourceNotFound', 'RefusedByAgent']);
const exhausted: ReadonlySet<string> = new Set(['NoSpace']);

/** The calls of the controller service that are about snapshots: each is a Snapshot object. */
export class SnapshotCalls {
  readonly #volumes: VolumeCalls;
  readonly #snapshots: CsiStore<SnapshotSpec, SnapshotStatus>;

  constructor(options: { volumes: VolumeCalls; snapshots: CsiStore<SnapshotSpec, SnapshotStatus> }) {
    this.#volumes = options.volumes;
    this.#snapshots = options.snapshots;
  }

  async create({ sourceVolumeId, name, parameters }: CreateSnapshotRequest): Promise<SnapshotMessage> {
    checkName(name);
    if (sourceVolumeId === '') throw new CsiError('INVALID_ARGUMENT', 'no source volume id was given');
    const volume = await this.#volumes.existing(sourceVolumeId);
    const spec = validateSpec(snapshots, snapshotSpec(parameters, volume, await this.#volumes.mirrorsOf(volume)));
    if (!spec.ok) throw new CsiError('INVALID_ARGUMENT', describeViolations(spec.violations));
    const known = await this.#snapshots.byCsiName(name);
    const namespace = volume.metadata.namespace ?? '';
    if (known && !(await this.#isOf(known, sourceVolumeId, namespace, spec.value))) {
      throw new CsiError('ALREADY_EXISTS', `there is a snapshot of that name of another volume`);
    }
    const snapshot = known ?? (await this.#snapshots.create(name, namespace, spec.value));
    return this.#untilTaken(snapshot, sourceVolumeId);
  }

  /** Before it has been taken, a snapshot is known by its source alone. */
  async #isOf(known: Snapshot, volumeId: string, namespace: string, spec: SnapshotSpec): Promise<boolean> {
    if (known.status?.volume !== undefined) return known.status.volume === volumeId;
    return known.metadata.namespace === namespace && JSON.stringify(known.spec.source) === JSON.stringify(spec.source);
  }

  async #untilTaken(snapshot: Snapshot, volumeId: string): Promise<SnapshotMessage> {
    const isOver = (now: Snapshot) => isTaken(now) || hopeless.has(readyOf(now)?.reason ?? '');
    const taken = await this.#snapshots.waitFor(snapshot, isOver);
    if (taken === undefined || taken.metadata.deletionTimestamp !== undefined) {
      throw new CsiError('ABORTED', 'the snapshot of that name is being deleted: wait until it is gone');
    }
    if (isTaken(taken)) return snapshotMessage(taken);
    const { reason = '', message = 'the operator has not looked at it yet' } = readyOf(taken) ?? {};
    const text = `there is no snapshot of volume ${volumeId} yet: ${message}`;
    if (exhausted.has(reason)) throw new CsiError('RESOURCE_EXHAUSTED', text);
    throw new CsiError(hopeless.has(reason) ? 'FAILED_PRECONDITION' : 'ABORTED', text);
  }

  async delete(snapshotId: string): Promise<Empty> {
    if (snapshotId === '') throw new CsiError('INVALID_ARGUMENT', 'no snapshot id was given');
    const snapshot = await this.find(snapshotId);
    if (snapshot === undefined) return {};
    checkMadeOverCsi(snapshot, 'delete');
    await this.#snapshots.delete(snapshot);
    const isBlocked = (now: Snapshot) => findCondition(now.status?.conditions, 'DeletionBlocked')?.reason === 'InUse';
    // What blocked an earlier call may be over, and its condition not renewed yet.
    const isRepeated = snapshot.metadata.deletionTimestamp !== undefined;
    const left = await this.#snapshots.waitFor(snapshot, (now) => !isRepeated && isBlocked(now));
    if (left === undefined) return {};
    const why = findCondition(left.status?.conditions, 'DeletionBlocked')?.message ?? 'its agent has not answered yet';
    const status = isBlocked(left) ? 'FAILED_PRECONDITION' : 'ABORTED';
    throw new CsiError(status, `snapshot ${snapshotId} is not gone yet: ${why}`);
  }

  async list(request: ListSnapshotsRequest): Promise<ListSnapshotsResponse> {
    const taken = (await this.#snapshots.list()).filter(
      (snapshot) =>
        isTaken(snapshot) &&
        snapshot.metadata.deletionTimestamp === undefined &&
        (request.snapshotId === '' || idOf(snapshot) === request.snapshotId) &&
        (request.sourceVolumeId === '' || snapshot.status?.volume === request.sourceVolumeId),
    );
    const { items, nextToken } = pageOf(taken, idOf, request);
    return { entries: items.map((snapshot) => ({ snapshot: snapshotMessage(snapshot) })), nextToken };
  }

  async find(snapshotId: string): Promise<Snapshot | undefined> {
    const uid = parseId(snapshotId)?.snapshotUid;
    const found = uid === undefined ? undefined : await this.#snapshots.byUid(uid);
    return found && (found.status?.volume === undefined || idOf(found) === snapshotId) ? found : undefined;
  }
}

/** The volume handle under which pods read it. */
function idOf(snapshot: Snapshot): string {
  return `${snapshot.status?.volume}@${agentSnapshotName(snapshot)}`;
}

function isTaken({ status }: Snapshot): boolean {
  return status?.takenAt !== undefined && status.volume !== undefined;
}

function readyOf({ status }: Snapshot) {
  return findCondition(status?.conditions, 'Ready');
}

function snapshotMessage(snapshot: Snapshot): SnapshotMessage {
  const { volume = '', takenAt = '', sizeBytes = 0, conditions } = snapshot.status ?? {};
  const takenAtMs = Date.parse(takenAt);
  return {
    snapshotId: idOf(snapshot),
    sourceVolumeId: volume,
    sizeBytes,
    creationTime: { seconds: Math.floor(takenAtMs / 1000), nanos: (takenAtMs % 1000) * 1_000_000 },
    readyToUse: isConditionTrue(conditions, 'Ready'),
  };
}
