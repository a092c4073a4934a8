import { isDeepStrictEqual } from 'node:util';
import type { MirrorSpec, VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { PrimaryVolume, PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import { sameLinks } from './link-spec.ts';

type Buffer = NonNullable<VolumeSpecInput['buffer']>;
type BufferField = PrimaryVolumeSpec['buffer'];

/** What a copy is told to be, where it has not been created yet. */
export function newCopySpec(
  volume: PrimaryVolume,
  spec: PrimaryVolumeSpec,
  copy: {
    readonly pool: string;
    readonly role: 'primary' | 'standby';
    readonly epoch: number;
    readonly buffer: BufferField;
  },
): VolumeSpecInput {
  return {
    size: parseQuantity(spec.size),
    pool: copy.pool,
    role: copy.role,
    epoch: copy.epoch,
    uid: volume.metadata.uid,
    blockSize: spec.blockSize,
    provisioning: spec.provisioning === 'Thick' ? 'thick' : 'sparse',
    ...optionalBuffer(toAgentBuffer(copy.buffer)),
    ...optionalPeers(volume),
  };
}

/**
 * What a copy that exists is told to be: as it is, except for what is passed. What cannot change at an agent is taken from
 * its view, so that asking again never asks for the impossible.
 */
export function changedCopySpec(
  view: VolumeView,
  volume: PrimaryVolume,
  change: {
    /** Another one than it has now. */
    readonly role?: 'primary' | 'standby';
    readonly epoch: number;
    readonly size?: number;
    readonly arbiterKey?: string | undefined;
    readonly acceptDataLoss?: boolean | undefined;
    readonly readersEnd?: boolean | undefined;
    readonly buffer?: BufferField;
    readonly source?: VolumeSpecInput['source'];
    readonly mirrors: readonly MirrorSpec[];
    readonly onLoss: 'suspend' | 'continue';
  },
): VolumeSpecInput {
  const provisioning = volume.status?.accepted?.provisioning ?? volume.spec.provisioning;
  return {
    size: Math.max(view.size, change.size ?? 0),
    pool: view.pool,
    role: change.role ?? view.role,
    epoch: change.epoch,
    uid: volume.metadata.uid,
    blockSize: view.blockSize === 4096 ? 4096 : 512,
    provisioning: provisioning === 'Sparse' ? 'sparse' : 'thick',
    ...optionalBuffer(toAgentBuffer(change.buffer) ?? bufferOf(view)),
    ...(change.source === undefined ? {} : { source: change.source }),
    mirrors: [...change.mirrors],
    onLoss: change.onLoss,
    ...optionalPeers(volume),
    ...(change.arbiterKey === undefined ? {} : { arbiterKey: change.arbiterKey }),
    ...(change.readersEnd ? { readers: 'disconnect' as const } : {}),
    ...(change.acceptDataLoss ? { acceptDataLoss: true } : {}),
  };
}

/** Whether a copy already is what a spec asks for, as far as its view tells. */
export function isAsSpecified(view: VolumeView, spec: VolumeSpecInput): boolean {
  return (
    view.role === spec.role &&
    view.epoch === spec.epoch &&
    view.size === spec.size &&
    (spec.arbiterKey === undefined || view.arbiter?.key === spec.arbiterKey) &&
    (spec.peers === undefined || isDeepStrictEqual(view.peers, spec.peers)) &&
    (spec.source === undefined || spec.source.address === view.filling?.address) &&
    sameBuffer(bufferOf(view), spec.buffer) &&
    sameLinks(view, spec.mirrors ?? [])
  );
}

export function toAgentBuffer(buffer: BufferField): Buffer | undefined {
  if (buffer === undefined) return undefined;
  return { pool: buffer.pool, capacity: parseQuantity(buffer.capacity), maxSnapshots: buffer.maxSnapshots };
}

function bufferOf(view: VolumeView): Buffer | undefined {
  if (view.buffer === undefined) return undefined;
  const { pool, capacityBytes, maxSnapshots } = view.buffer;
  return { pool, capacity: capacityBytes, maxSnapshots };
}

/** Every copy is told of all nodes with copies, so that links are made with none but them, whichever becomes the primary. */
function optionalPeers({ status }: PrimaryVolume): { peers?: string[] } {
  const nodes = new Set((status?.copies ?? []).map(({ node }) => node));
  return nodes.size === 0 ? {} : { peers: [...nodes].sort() };
}

function optionalBuffer(buffer: Buffer | undefined): { buffer?: Buffer } {
  return buffer === undefined ? {} : { buffer };
}

function sameBuffer(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a?.pool === b?.pool && a?.capacity === b?.capacity && a?.maxSnapshots === b?.maxSnapshots;
}
