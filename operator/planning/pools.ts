import { parseQuantity } from '../../common/quantity.ts';
import { keyOf, keyText } from '../resources/kube-object.ts';
import type { NodePool } from '../resources/node-pool.ts';
import { originCopy, type PrimaryVolume } from '../resources/primary-volume.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';

/** Bytes that are promised to something in a pool. */
export interface Allocation {
  /** The uid of the object that it is promised to. */
  readonly owner: string;
  readonly node: string;
  readonly pool: string;
  readonly bytes: number;
}

/** What all volumes and mirrors that have been placed take, in whatever state they are. */
export function allocations(volumes: readonly PrimaryVolume[], mirrors: readonly StandbyMirror[]): Allocation[] {
  const byKey = new Map(volumes.map((volume) => [keyText(keyOf(volume)), volume]));
  return [...volumes.flatMap(volumeAllocations), ...mirrors.flatMap((mirror) => mirrorAllocations(mirror, byKey))];
}

function volumeAllocations(volume: PrimaryVolume): Allocation[] {
  const { uid } = volume.metadata;
  const bytes = sizeOf(volume);
  const stale = volume.status?.staleCopies ?? [];
  const left = stale.map(({ node, pool, name }) => ({ owner: `${uid}/stale/${name}`, node, pool, bytes }));
  const origin = volume.status?.copies?.find((copy) => copy.name === originCopy);
  if (origin === undefined) return left;
  return [...copyAllocations(uid, origin.node, origin.pool, bytes, volume.spec.buffer), ...left];
}

function mirrorAllocations(mirror: StandbyMirror, volumes: ReadonlyMap<string, PrimaryVolume>): Allocation[] {
  const { node, pool } = mirror.status ?? {};
  if (node === undefined || pool === undefined) return [];
  const { namespace } = mirror.metadata;
  const name = mirror.spec.primaryVolumeRef?.name;
  const volume = namespace === undefined || name === undefined ? undefined : volumes.get(keyText({ namespace, name }));
  const bytes = volume === undefined ? 0 : sizeOf(volume);
  return copyAllocations(mirror.metadata.uid, node, pool, bytes, mirror.spec.buffer);
}

function copyAllocations(
  owner: string,
  node: string,
  pool: string,
  bytes: number,
  buffer: { readonly pool: string; readonly capacity: string | number } | undefined,
): Allocation[] {
  const copy = { owner, node, pool, bytes };
  if (buffer === undefined) return [copy];
  return [copy, { owner, node, pool: buffer.pool, bytes: bytesOf(buffer.capacity) }];
}

function sizeOf(volume: PrimaryVolume): number {
  return Math.max(bytesOf(volume.spec.size), volume.status?.sizeBytes ?? 0);
}

/** An object that is invalid is counted as nothing here; its own planning says what is wrong with it. */
function bytesOf(quantity: unknown): number {
  try {
    return typeof quantity === 'string' || typeof quantity === 'number' ? parseQuantity(quantity) : 0;
  } catch {
    return 0;
  }
}

export function findPool(pools: readonly NodePool[], node: string, name: string): NodePool | undefined {
  return pools.find((pool) => pool.spec.node === node && pool.spec.name === name);
}

/** Bytes that are left in a pool for `owner`, or undefined if the pool has no limit. */
export function freeBytes(pool: NodePool, all: readonly Allocation[], owner: string): number | undefined {
  if (pool.spec.capacity === undefined) return undefined;
  const others = all.filter(
    (allocation) =>
      allocation.node === pool.spec.node && allocation.pool === pool.spec.name && allocation.owner !== owner,
  );
  return bytesOf(pool.spec.capacity) - others.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Why two pools of a node are on the same disk for all that can be told, or undefined if nothing says so. */
export function sameDiskReason(pool: NodePool, other: NodePool): string | undefined {
  if (pool.spec.name === other.spec.name) return `both are pool ${pool.spec.name}`;
  const [a, b] = [pool.spec.directory, other.spec.directory];
  if (a !== undefined && b !== undefined && (isWithin(a, b) || isWithin(b, a))) {
    return `pools ${pool.spec.name} and ${other.spec.name} share the directory ${a.length < b.length ? a : b}`;
  }
  const shared = pool.spec.devices?.find((device) => other.spec.devices?.includes(device));
  return shared === undefined ? undefined : `pools ${pool.spec.name} and ${other.spec.name} share the device ${shared}`;
}

function isWithin(inner: string, outer: string): boolean {
  const root = outer.replace(/\/+$/, '');
  return inner === root || inner.startsWith(`${root}/`) || inner.replace(/\/+$/, '') === root;
}
