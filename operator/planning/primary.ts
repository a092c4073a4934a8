import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { originCopy, type PrimaryVolume, type VolumeCopy } from '../resources/primary-volume.ts';
import type { Observation } from './actions.ts';
import { agentVolumeName, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** Who is the primary of a volume now, as far as the agents and the status tell. */
export interface PrimaryFact {
  /** The copy's name. */
  readonly copy: string;
  readonly node: string;
  readonly pool: string;
  readonly epoch: number;
  readonly observation: Observation;
  /** Why it must be left alone, if it must. */
  readonly trouble?: { readonly reason: string; readonly message: string };
}

interface Candidate {
  readonly copy: string;
  readonly node: string;
  readonly pool: string;
  readonly view: VolumeView;
}

/**
 * The primary is the copy that says so in the highest epoch, and never one of an epoch below that of the status: someone
 * may have promoted a standby at its agent, and the operator follows. If no copy says so, it still is where the status
 * has it. Undefined while the volume has not been placed.
 */
export function findPrimary(world: VolumeWorld, volume: PrimaryVolume): PrimaryFact | undefined {
  const { status } = volume;
  if (status?.node === undefined || status.pool === undefined) return undefined;
  const epoch = status.epoch ?? 1;
  const claims = candidates(world, volume).filter(({ view }) => view.role === 'primary' && view.epoch >= epoch);
  const highest = Math.max(epoch, ...claims.map(({ view }) => view.epoch));
  const [first, second] = claims.filter(({ view }) => view.epoch === highest);
  if (first === undefined) return lastKnown(world, volume, { node: status.node, pool: status.pool, epoch });
  const fact: PrimaryFact = {
    copy: first.copy,
    node: first.node,
    pool: first.view.pool,
    epoch: highest,
    observation: { kind: 'present', view: first.view },
  };
  if (second === undefined) return fact;
  const message = `nodes ${first.node} and ${second.node} both say they are the primary in epoch ${highest}; nothing is done until one of them is removed`;
  return { ...fact, trouble: { reason: 'TwoPrimaries', message } };
}

function candidates(world: VolumeWorld, volume: PrimaryVolume): Candidate[] {
  return knownCopies(world, volume).flatMap(({ name, node, pool }) => {
    const view = viewOf(observe(world, node, agentVolumeName(volume)));
    return view === undefined ? [] : [{ copy: name, node, pool, view }];
  });
}

/** The copies of the status, and those of mirrors that have been placed since it was written. */
export function knownCopies(world: VolumeWorld, volume: PrimaryVolume): Pick<VolumeCopy, 'name' | 'node' | 'pool'>[] {
  const recorded = volume.status?.copies ?? [];
  const name = agentVolumeName(volume);
  const placed = world.mirrors.flatMap(({ metadata, status }) =>
    status?.node === undefined || status.pool === undefined || status.volume !== name
      ? []
      : [{ name: metadata.name, node: status.node, pool: status.pool }],
  );
  return [...recorded, ...placed.filter((copy) => !recorded.some((other) => other.name === copy.name))];
}

/** Where the status has it, though no copy claims to be the primary. */
function lastKnown(
  world: VolumeWorld,
  volume: PrimaryVolume,
  known: { readonly node: string; readonly pool: string; readonly epoch: number },
): PrimaryFact {
  const copy = volume.status?.copies?.find(({ node }) => node === known.node)?.name ?? originCopy;
  const observation = observe(world, known.node, agentVolumeName(volume));
  const fact = { copy, ...known, observation };
  const view = viewOf(observation);
  if (view === undefined) return fact;
  const message =
    view.role === 'standby'
      ? `no copy says it is the primary: the one on node ${known.node} has become a standby in epoch ${view.epoch}`
      : `the copy on node ${known.node} is of epoch ${view.epoch}, but epoch ${known.epoch} has been reached: it is stale`;
  return { ...fact, trouble: { reason: view.role === 'standby' ? 'NoPrimary' : 'StaleCopy', message } };
}
