/**
 * The CSI controller service: what Kubernetes' side-cars (provisioner, snapshotter, resizer) call. It makes and removes the
 * same objects that people would, and waits for what the operator's controllers make of them; it holds nothing itself, so
 * any call can be repeated at any replica.
 *
 * Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#controller-service-rpc
 */
import { CsiError } from '../../common/csi/csi-error.ts';
import type {
  ControllerCalls,
  ControllerCapabilities,
  ControllerCapability,
  CreateSnapshotRequest,
  CreateVolumeRequest,
  DeleteSnapshotRequest,
  Empty,
  ExpandVolumeRequest,
  ExpandVolumeResponse,
  GetCapacityRequest,
  GetCapacityResponse,
  ListRequest,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  ListVolumesResponse,
  SnapshotResponse,
  ValidateCapabilitiesRequest,
  ValidateCapabilitiesResponse,
  VolumeEntry,
  VolumeIdRequest,
  VolumeResponse,
} from '../../common/csi/messages.ts';
import type { SnapshotCalls } from './snapshot-calls.ts';
import type { VolumeCalls } from './volume-calls.ts';
import { checkCapabilities, checkName } from './volume-request.ts';

const capabilities: readonly ControllerCapability[] = [
  'CREATE_DELETE_VOLUME',
  'LIST_VOLUMES',
  'GET_CAPACITY',
  'CREATE_DELETE_SNAPSHOT',
  'LIST_SNAPSHOTS',
  'EXPAND_VOLUME',
  'VOLUME_CONDITION',
  'GET_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
];

export class ControllerService implements ControllerCalls {
  readonly #volumes: VolumeCalls;
  readonly #snapshots: SnapshotCalls;
  readonly #busy = new Set<string>();

  constructor(options: { volumes: VolumeCalls; snapshots: SnapshotCalls }) {
    this.#volumes = options.volumes;
    this.#snapshots = options.snapshots;
  }

  async controllerGetCapabilities(): Promise<ControllerCapabilities> {
    return { capabilities: capabilities.map((type) => ({ rpc: { type } })) };
  }

  async createVolume(request: CreateVolumeRequest): Promise<VolumeResponse> {
    checkName(request.name);
    checkCapabilities(request.volumeCapabilities);
    if (request.volumeContentSource) await this.#refuseSource(request.volumeContentSource.snapshot?.snapshotId);
    return this.#exclusively(`volume ${request.name}`, async () => ({ volume: await this.#volumes.create(request) }));
  }

  async #refuseSource(snapshotId: string | undefined): Promise<never> {
    if (snapshotId !== undefined && !(await this.#snapshots.find(snapshotId))) {
      throw new CsiError('NOT_FOUND', `there is no snapshot ${JSON.stringify(snapshotId)}`);
    }
    throw new CsiError(
      'UNIMPLEMENTED',
      'volumes with the content of a snapshot or of another volume cannot be made yet',
    );
  }

  deleteVolume({ volumeId }: VolumeIdRequest): Promise<Empty> {
    return this.#exclusively(volumeId, () => this.#volumes.delete(volumeId));
  }

  controllerExpandVolume(request: ExpandVolumeRequest): Promise<ExpandVolumeResponse> {
    return this.#exclusively(request.volumeId, () => this.#volumes.expand(request));
  }

  validateVolumeCapabilities(request: ValidateCapabilitiesRequest): Promise<ValidateCapabilitiesResponse> {
    return this.#volumes.validate(request);
  }

  listVolumes(request: ListRequest): Promise<ListVolumesResponse> {
    return this.#volumes.list(request);
  }

  controllerGetVolume({ volumeId }: VolumeIdRequest): Promise<VolumeEntry> {
    return this.#volumes.get(volumeId);
  }

  getCapacity(request: GetCapacityRequest): Promise<GetCapacityResponse> {
    return this.#volumes.capacity(request);
  }

  createSnapshot(request: CreateSnapshotRequest): Promise<SnapshotResponse> {
    const task = async () => ({ snapshot: await this.#snapshots.create(request) });
    return this.#exclusively(`snapshot ${request.name}`, task);
  }

  deleteSnapshot({ snapshotId }: DeleteSnapshotRequest): Promise<Empty> {
    return this.#exclusively(snapshotId, () => this.#snapshots.delete(snapshotId));
  }

  listSnapshots(request: ListSnapshotsRequest): Promise<ListSnapshotsResponse> {
    return this.#snapshots.list(request);
  }

  /** @throws CsiError ABORTED while another call for the same thing is under way here */
  async #exclusively<T>(what: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy.has(what)) throw new CsiError('ABORTED', `another call for ${what} is under way`);
    this.#busy.add(what);
    try {
      return await task();
    } finally {
      this.#busy.delete(what);
    }
  }
}
