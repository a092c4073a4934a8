import { formatBytes } from '../../common/quantity.ts';
import type { Validation } from '../../common/validation.ts';
import { type PrimaryVolumeSpec, primaryVolumes, sizeUnitBytes } from '../resources/primary-volume.ts';
import { type StandbyMirrorSpec, standbyMirrors } from '../resources/standby-mirror.ts';
import { describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { type BufferParameters, type ClaimParameters, parseClaimParameters } from './claim-parameters.ts';

/** What is asked for beside the parameters of the StorageClass, by a PersistentVolumeClaim or a CSI CreateVolume. */
export interface ClaimRequest {
  /** The name that the PrimaryVolume is going to have. */
  readonly volumeName: string;
  readonly requestedBytes: number;
  /** More than that is not wanted. */
  readonly limitBytes?: number | undefined;
  readonly volumeMode: 'Filesystem' | 'Block';
  /** As Kubernetes writes them: ReadWriteOnce, … */
  readonly accessModes: readonly string[];
  /** The node on which the first consumer runs, for volumeBindingMode WaitForFirstConsumer. */
  readonly selectedNode?: string | undefined;
  /** Labels that the node must have besides those of the parameters, from allowedTopologies. */
  readonly topology?: Readonly<Record<string, string>> | undefined;
  readonly reclaimPolicy: 'Delete' | 'Retain';
  readonly mountOptions: readonly string[];
  /** The claim to bind, and its class; without it (CSI) the operator makes neither a volume object nor a claim. */
  readonly claim?: { readonly name: string; readonly storageClassName: string } | undefined;
}

export type ClaimPlan =
  | { readonly ok: true; readonly volume: PrimaryVolumeSpec; readonly mirror: StandbyMirrorSpec | undefined }
  /** It cannot be had; the message says why and what to change, for people. */
  | { readonly ok: false; readonly message: string };

const bufferUnitBytes = 2 ** 20;
const writableByOne: readonly string[] = ['ReadWriteOnce', 'ReadWriteOncePod'];

/**
 * The PrimaryVolume and the StandbyMirror that a claim of a StorageClass becomes. The size is that of the request, rounded
 * up to what agents allocate in.
 * @param parameters those of the StorageClass; what is unknown or wrong is refused.
 */
export function planClaim(parameters: Readonly<Record<string, string>>, request: ClaimRequest): ClaimPlan {
  const parsed = parseClaimParameters(parameters);
  if (!parsed.ok) return parsed;
  const size = sizeOf(request);
  const problem = accessProblem(request.accessModes) ?? limitProblem(size, request);
  if (problem !== undefined) return { ok: false, message: problem };
  const volume = validateSpec(primaryVolumes, volumeSpec(parsed.value, request, size));
  if (!volume.ok) return invalid('PrimaryVolume', volume);
  const standby = standbySpec(parsed.value, request.volumeName, size);
  if (standby === undefined) return { ok: true, volume: volume.value, mirror: undefined };
  const mirror = validateSpec(standbyMirrors, standby);
  return mirror.ok ? { ok: true, volume: volume.value, mirror: mirror.value } : invalid('StandbyMirror', mirror);
}

/** The size that a volume gets for a request, in bytes. */
export function sizeOf({ requestedBytes }: Pick<ClaimRequest, 'requestedBytes'>): number {
  return Math.ceil(Math.max(1, requestedBytes) / sizeUnitBytes) * sizeUnitBytes;
}

function accessProblem(modes: readonly string[]): string | undefined {
  const others = modes.filter((mode) => !writableByOne.includes(mode));
  if (others.length === 0) return undefined;
  return `accessModes: expected ${writableByOne.join(' or ')}, got ${others.join(', ')}: a volume has one primary; read-only copies of it are Snapshots`;
}

function limitProblem(size: number, { limitBytes }: ClaimRequest): string | undefined {
  if (limitBytes === undefined || limitBytes === 0 || size <= limitBytes) return undefined;
  return `the size would be ${formatBytes(size)} (a multiple of ${sizeUnitBytes} bytes), above the limit of ${limitBytes} bytes`;
}

function volumeSpec(parameters: ClaimParameters, request: ClaimRequest, size: number): object {
  const { selectedNode, claim } = request;
  return {
    size,
    ...(selectedNode === undefined
      ? { nodeSelector: { ...parameters.nodeSelector, ...request.topology } }
      : { nodeName: selectedNode }),
    pool: parameters.pool,
    volumeMode: request.volumeMode,
    fsType: parameters.fsType,
    blockSize: parameters.blockSize,
    provisioning: parameters.provisioning,
    reclaimPolicy: request.reclaimPolicy,
    ...(request.mountOptions.length === 0 ? {} : { mountOptions: [...request.mountOptions] }),
    ...(claim === undefined ? { claim: false } : { claimName: claim.name, storageClassName: claim.storageClassName }),
    // Without a standby the volume keeps its snapshots itself.
    ...(parameters.standby === undefined ? bufferOf(parameters.buffer, size) : {}),
  };
}

function standbySpec(parameters: ClaimParameters, volumeName: string, size: number): object | undefined {
  const { standby } = parameters;
  if (standby === undefined) return undefined;
  return { primaryVolumeRef: { name: volumeName }, ...standby, ...bufferOf(parameters.buffer, size) };
}

function bufferOf(buffer: BufferParameters | undefined, size: number): object {
  if (buffer === undefined) return {};
  const { pool, capacity, maxSnapshots } = buffer;
  const bytes = 'bytes' in capacity ? capacity.bytes : (size * capacity.percentOfSize) / 100;
  return {
    buffer: {
      pool,
      capacity: Math.ceil(bytes / bufferUnitBytes) * bufferUnitBytes,
      ...(maxSnapshots === undefined ? {} : { maxSnapshots }),
    },
  };
}

function invalid(kind: string, result: Validation<unknown> & { ok: false }): ClaimPlan {
  return { ok: false, message: `the claim would make an invalid ${kind}: ${describeViolations(result.violations)}` };
}
