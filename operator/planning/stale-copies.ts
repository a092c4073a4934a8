import { originCopy, type PrimaryVolume, type StaleCopy } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';

/**
 * Copies that were given up since their nodes were lost. They are listed in `status.staleCopies` of the volume, in the object
 * that has the arbiter's record, and what is listed there is no copy of the volume any more: it is nobody's standby, is linked
 * to by nobody, and is never a candidate. Whoever swaps the record swaps it under the version of the object in which it has
 * read the list, so a copy is given up and promoted by no interleaving. Pure.
 */
export function isGivenUp(volume: PrimaryVolume | undefined, name: string, node: string): boolean {
  return volume?.status?.staleCopies?.some((stale) => stale.name === name && stale.node === node) ?? false;
}

export function wasGivenUp(volume: PrimaryVolume, name: string): boolean {
  return volume.status?.staleCopies?.some((stale) => stale.name === name) ?? false;
}

/** Its standby has been given up, and has no other place yet. */
export function isMoving(
  volume: PrimaryVolume,
  { name, placed }: { readonly name: string; readonly placed: object | undefined },
): boolean {
  return placed === undefined && wasGivenUp(volume, name);
}

/** Whether a snapshot is in a copy that was given up. */
export function isInStaleCopy(volume: PrimaryVolume | undefined, { status }: Snapshot): boolean {
  const { node, copy = originCopy } = status ?? {};
  return node !== undefined && isGivenUp(volume, copy, node);
}

export function sameCopy(a: Pick<StaleCopy, 'name' | 'node'>, b: Pick<StaleCopy, 'name' | 'node'>): boolean {
  return a.name === b.name && a.node === b.node;
}
