import { CsiError } from '../../common/csi/csi-error.ts';
import { topologyKey, uidKey } from '../../common/csi/driver.ts';
import type {
  CreateVolumeRequest,
  Empty,
  ExpandVolumeRequest,
  ExpandVolumeResponse,
  GetCapacityRequest,
  GetCapacityResponse,
  ListRequest,
  ListVolumesResponse,
  ValidateCapabilitiesRequest,
  ValidateCapabilitiesResponse,
  Volume,
  VolumeCondition,
  VolumeEntry,
} from '../../common/csi/messages.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { parseClaimParameters } from '../planning/claim-parameters.ts';
import { type ClaimRequest, planClaim, sizeOf } from '../planning/plan-claim.ts';
import { allocations, freeBytes } from '../planning/pools.ts';
import { agentVolumeName } from '../planning/volume-world.ts';
import { findCondition } from '../resources/conditions.ts';
import { nodePools } from '../resources/node-pool.ts';
import type { PrimaryVolume, PrimaryVolumeSpec, PrimaryVolumeStatus } from '../resources/primary-volume.ts';
import type { StandbyMirror, StandbyMirrorSpec, StandbyMirrorStatus } from '../resources/standby-mirror.ts';
import { objectNameOf, parseId } from './csi-names.ts';
import { type CsiStore, checkMadeOverCsi } from './csi-store.ts';
import { pageOf } from './paging.ts';
import { placesOf } from './places.ts';
import {
  accessModeOf,
  checkCapabilities,
  checkName,
  namespaceParameter,
  nodeAt,
  rangeOf,
  toClaimRequest,
} from './volume-request.ts';

export interface VolumeCallsOptions {
  readonly api: KubeApi;
  readonly volumes: CsiStore<PrimaryVolumeSpec, PrimaryVolumeStatus>;
  readonly mirrors: CsiStore<StandbyMirrorSpec, StandbyMirrorStatus>;
  /** Where volumes are made of which no namespace is said. */
  readonly namespace: string;
}

/** For pools of which nobody says how much may be placed in them: their disks are the limit, which agents check. */
const unlimitedBytes = 2 ** 50;

/** The calls of the controller service that are about volumes: each is a PrimaryVolume, and a StandbyMirror if asked for. */
export class VolumeCalls {
  readonly #options: VolumeCallsOptions;

  constructor(options: VolumeCallsOptions) {
    this.#options = options;
  }

  async create(request: CreateVolumeRequest): Promise<Volume> {
    checkName(request.name);
    checkCapabilities(request.volumeCapabilities);
    const { volumes, namespace: ownNamespace } = this.#options;
    const claim = toClaimRequest(request, objectNameOf(request.name), await this.#nodes());
    const plan = planClaim(request.parameters, claim);
    if (!plan.ok) throw new CsiError('INVALID_ARGUMENT', plan.message);
    const namespace = request.parameters[namespaceParameter] || ownNamespace;
    const known = await volumes.byCsiName(request.name);
    if (known) checkSame(known, plan.volume, claim);
    const volume = known ?? (await volumes.create(request.name, namespace, plan.volume));
    if (volume.metadata.deletionTimestamp !== undefined) {
      throw new CsiError('ABORTED', `the volume of that name is being deleted: wait until it is gone`);
    }
    if (plan.mirror) {
      await this.#options.mirrors.create(request.name, volume.metadata.namespace ?? namespace, plan.mirror);
    }
    return volumeMessage(await this.#untilMade(volume));
  }

  async #untilMade(volume: PrimaryVolume): Promise<PrimaryVolume> {
    const isMade = ({ status }: PrimaryVolume) => status?.sizeBytes !== undefined && status.node !== undefined;
    const isHopeless = ({ status }: PrimaryVolume) => status?.node === undefined && readyReason(status) !== undefined;
    const made = await this.#options.volumes.waitFor(volume, (now) => isMade(now) || isHopeless(now));
    if (made === undefined) throw new CsiError('ABORTED', 'the volume was deleted while it was made');
    if (isMade(made)) return made;
    const why = findCondition(made.status?.conditions, 'Ready')?.message ?? 'the operator has not looked at it yet';
    if (isHopeless(made)) throw new CsiError('RESOURCE_EXHAUSTED', `the volume cannot be placed: ${why}`);
    throw new CsiError('ABORTED', `the volume is still being made: ${why}`);
  }

  async delete(volumeId: string): Promise<Empty> {
    const volume = await this.#find(volumeId);
    if (volume === undefined) return {};
    checkMadeOverCsi(volume, 'delete');
    const { volumes, mirrors } = this.#options;
    for (const mirror of await this.mirrorsOf(volume)) await mirrors.delete(mirror);
    await volumes.delete(volume);
    const left = await volumes.waitFor(volume, () => false);
    if (left === undefined) return {};
    const why = findCondition(left.status?.conditions, 'DeletionBlocked')?.message ?? 'its copies are being deleted';
    throw new CsiError('ABORTED', `volume ${volumeId} is not gone yet: ${why}`);
  }

  async expand({ volumeId, capacityRange }: ExpandVolumeRequest): Promise<ExpandVolumeResponse> {
    if (!capacityRange) throw new CsiError('INVALID_ARGUMENT', 'no capacity range was given');
    const volume = await this.existing(volumeId);
    const size = sizeOf(rangeOf(capacityRange));
    if (size > parseQuantity(volume.spec.size)) await this.#options.volumes.patchSpec(volume, { size });
    const grown = await this.#options.volumes.waitFor(volume, ({ status }) => (status?.sizeBytes ?? 0) >= size);
    const capacityBytes = grown?.status?.sizeBytes ?? 0;
    if (capacityBytes >= size) return { capacityBytes, nodeExpansionRequired: true };
    const why = ['Configured', 'Ready'] as const;
    const reasons = why.map((type) => findCondition(grown?.status?.conditions, type));
    const blocked = reasons.find((condition) => condition?.status === 'False');
    const message = `volume ${volumeId} is to have ${size} bytes and has ${capacityBytes}: ${blocked?.message ?? 'it is growing'}`;
    throw new CsiError(blocked?.reason === 'InUse' ? 'FAILED_PRECONDITION' : 'ABORTED', message);
  }

  async validate(request: ValidateCapabilitiesRequest): Promise<ValidateCapabilitiesResponse> {
    const { volumeId, volumeCapabilities, volumeContext, parameters } = request;
    requireId(volumeId);
    checkCapabilities(volumeCapabilities);
    const volume = await this.existing(volumeId);
    const isBlock = volume.spec.volumeMode === 'Block';
    for (const capability of volumeCapabilities) {
      const mode = accessModeOf(capability);
      if (mode !== 'ReadWriteOnce' && mode !== 'ReadWriteOncePod') return { message: `${mode} is not possible` };
      if (Boolean(capability.block) !== isBlock)
        return { message: `the volume is for volumeMode ${volume.spec.volumeMode}` };
    }
    return { confirmed: { volumeCapabilities, volumeContext, parameters } };
  }

  async list(request: ListRequest): Promise<ListVolumesResponse> {
    const made = (await this.#options.volumes.list()).filter(isListed);
    const { items, nextToken } = pageOf(made, agentVolumeName, request);
    return { entries: items.map(volumeEntry), nextToken };
  }

  async get(volumeId: string): Promise<VolumeEntry> {
    return volumeEntry(await this.existing(volumeId));
  }

  /** What may still be placed in the pools that the parameters mean, on one node or on all. */
  async capacity({ parameters, accessibleTopology }: GetCapacityRequest): Promise<GetCapacityResponse> {
    const parsed = parseClaimParameters(parameters);
    if (!parsed.ok) throw new CsiError('INVALID_ARGUMENT', parsed.message);
    const { api, volumes, mirrors } = this.#options;
    const pools = (await api.list(nodePools)).items;
    const value = accessibleTopology?.segments[topologyKey];
    const nodes = pools.map(({ spec }) => spec.node);
    const node = value === undefined ? undefined : nodeAt(value, nodes);
    const all = allocations(await volumes.list(), await mirrors.list());
    const free = pools
      .filter(({ spec }) => spec.name === parsed.value.pool && spec.purpose === 'volumes')
      .filter(({ spec }) => node === undefined || spec.node === node)
      .map((pool) => Math.max(0, freeBytes(pool, all, '') ?? unlimitedBytes));
    const availableCapacity = free.reduce((sum, bytes) => sum + bytes, 0);
    return { availableCapacity, maximumVolumeSize: { value: Math.max(0, ...free) } };
  }

  /** The StandbyMirrors of a volume. */
  async mirrorsOf(volume: PrimaryVolume): Promise<readonly StandbyMirror[]> {
    const { namespace, name } = volume.metadata;
    return (await this.#options.mirrors.list()).filter(
      ({ metadata, spec }) => metadata.namespace === namespace && spec.primaryVolumeRef?.name === name,
    );
  }

  /** @throws CsiError INVALID_ARGUMENT, NOT_FOUND */
  async existing(volumeId: string): Promise<PrimaryVolume> {
    const volume = await this.#find(volumeId);
    if (volume) return volume;
    throw new CsiError('NOT_FOUND', `there is no volume ${JSON.stringify(volumeId)}`);
  }

  async #find(volumeId: string): Promise<PrimaryVolume | undefined> {
    requireId(volumeId);
    const id = parseId(volumeId);
    if (id === undefined || id.snapshotUid !== undefined) return undefined;
    return this.#options.volumes.byUid(id.volumeUid);
  }

  async #nodes(): Promise<string[]> {
    return (await this.#options.api.list(nodePools)).items.map(({ spec }) => spec.node);
  }
}

/** @throws CsiError INVALID_ARGUMENT */
function requireId(volumeId: string): void {
  if (volumeId === '') throw new CsiError('INVALID_ARGUMENT', 'no volume id was given');
}

/** A repeated call must mean the same volume. @throws CsiError ALREADY_EXISTS */
function checkSame(known: PrimaryVolume, wanted: PrimaryVolumeSpec, { limitBytes = 0 }: ClaimRequest): void {
  const size = parseQuantity(known.spec.size);
  const fits = size >= parseQuantity(wanted.size) && (limitBytes === 0 || size <= limitBytes);
  const fields = ['volumeMode', 'fsType', 'blockSize', 'provisioning', 'pool'] as const;
  const other = fits ? fields.find((field) => known.spec[field] !== wanted[field]) : 'size';
  if (other === undefined) return;
  throw new CsiError('ALREADY_EXISTS', `there is a volume of that name with another ${other}`);
}

function isListed({ metadata, status }: PrimaryVolume): boolean {
  return metadata.deletionTimestamp === undefined && status?.sizeBytes !== undefined && status.node !== undefined;
}

function volumeEntry(volume: PrimaryVolume): VolumeEntry {
  return { volume: volumeMessage(volume), status: { publishedNodeIds: [], volumeCondition: conditionOf(volume) } };
}

function conditionOf({ status }: PrimaryVolume): VolumeCondition {
  const ready = findCondition(status?.conditions, 'Ready');
  return { abnormal: ready?.status !== 'True', message: ready?.message ?? 'nothing is known about the volume yet' };
}

/** Why it is not ready, unless that only takes its time. */
function readyReason(status: PrimaryVolumeStatus | undefined): string | undefined {
  const ready = findCondition(status?.conditions, 'Ready');
  return ready?.status === 'False' && ready.reason !== 'Pending' ? ready.reason : undefined;
}

function volumeMessage(volume: PrimaryVolume): Volume {
  return {
    volumeId: agentVolumeName(volume),
    capacityBytes: volume.status?.sizeBytes ?? parseQuantity(volume.spec.size),
    volumeContext: { [uidKey]: volume.metadata.uid },
    accessibleTopology: placesOf(volume),
  };
}
