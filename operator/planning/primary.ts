import type { ArbiterRecord } from '../../agent/api/contract/arbiter-record.ts';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import { originCopy, type PrimaryVolume, type VolumeCopy } from '../resources/primary-volume.ts';
import type { Observation } from './actions.ts';
import { firstRecord, followedRecord } from './arbiter-records.ts';
import { isGivenUp } from './stale-copies.ts';
import { agentVolumeName, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** Who is the primary of a volume now, as far as the record, the agents and the status tell. */
export interface PrimaryFact {
  /** The copy's name. */
  readonly copy: string;
  readonly node: string;
  readonly pool: string;
  readonly epoch: number;
  readonly observation: Observation;
  /** What the arbiter's record is, or is to become to say what has happened already. */
  readonly record: ArbiterRecord;
  /** The record has it as the primary of an epoch that its agent has not been told of yet. */
  readonly due?: 'promotion' | 'renewal';
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
 * The primary is the copy that the record names. A copy that says it is the primary in a higher epoch has been promoted at
 * its agent, by someone, and the record follows it; one of a lower epoch is stale. If no copy says so, the primary still is
 * where the record has it. Undefined while the volume has not been placed.
 */
export function findPrimary(world: VolumeWorld, volume: PrimaryVolume): PrimaryFact | undefined {
  const { status } = volume;
  if (status?.node === undefined || status.pool === undefined) return undefined;
  const record = status.arbiter;
  const epoch = Math.max(status.epoch ?? 1, record?.epoch ?? 1);
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
    record: recordFor(record, first, highest),
  };
  const rival = second?.node ?? (record?.epoch === highest && record.node !== first.node ? record.node : undefined);
  if (rival === undefined) return fact;
  const message = `nodes ${first.node} and ${rival} both are the primary in epoch ${highest}; nothing is done until one of them is removed`;
  return { ...fact, trouble: { reason: 'TwoPrimaries', message } };
}

function recordFor(
  record: ArbiterRecord | undefined,
  place: { readonly node: string; readonly copy: string },
  epoch: number,
): ArbiterRecord {
  if (record === undefined) return firstRecord(place, epoch);
  return record.epoch < epoch ? followedRecord(record, place, epoch) : record;
}

function candidates(world: VolumeWorld, volume: PrimaryVolume): Candidate[] {
  return knownCopies(world, volume).flatMap(({ name, node, pool }) => {
    const view = viewOf(observe(world, node, agentVolumeName(volume)));
    return view === undefined ? [] : [{ copy: name, node, pool, view }];
  });
}

/** The copies of the status, and those of mirrors that have been placed since it was written; none that was given up. */
export function knownCopies(world: VolumeWorld, volume: PrimaryVolume): Pick<VolumeCopy, 'name' | 'node' | 'pool'>[] {
  const recorded = volume.status?.copies ?? [];
  const name = agentVolumeName(volume);
  const placed = world.mirrors.flatMap(({ metadata, status }) =>
    status?.node === undefined ||
    status.pool === undefined ||
    status.volume !== name ||
    isGivenUp(volume, metadata.name, status.node)
      ? []
      : [{ name: metadata.name, node: status.node, pool: status.pool }],
  );
  return [...recorded, ...placed.filter((copy) => !recorded.some((other) => other.name === copy.name))];
}

/** Where the record has it, though no copy claims to be the primary of that epoch. */
function lastKnown(
  world: VolumeWorld,
  volume: PrimaryVolume,
  known: { readonly node: string; readonly pool: string; readonly epoch: number },
): PrimaryFact {
  const copy = volume.status?.copies?.find(({ node }) => node === known.node)?.name ?? originCopy;
  const observation = observe(world, known.node, agentVolumeName(volume));
  const record = recordFor(volume.status?.arbiter, { node: known.node, copy }, known.epoch);
  const fact = { copy, ...known, observation, record };
  const view = viewOf(observation);
  if (view === undefined) return fact;
  const due = dueAt(view, record);
  if (due !== undefined) return { ...fact, due };
  const message =
    view.role === 'standby'
      ? `no copy says it is the primary: the one on node ${known.node} has become a standby in epoch ${view.epoch}`
      : `the copy on node ${known.node} is of epoch ${view.epoch}, but epoch ${known.epoch} has been reached: it is stale`;
  return { ...fact, trouble: { reason: view.role === 'standby' ? 'NoPrimary' : 'StaleCopy', message } };
}

/**
 * What its agent is to be told of, so that it is what the record says: that a standby, prepared for just this epoch, is the
 * primary; or that a primary, the same since then, has a newer epoch. Everything else is a copy that the record is not about.
 */
function dueAt(view: VolumeView, record: ArbiterRecord): PrimaryFact['due'] {
  if (view.role === 'standby') return view.prepared === record.epoch ? 'promotion' : undefined;
  const since = view.primarySince ?? view.epoch;
  return view.epoch < record.epoch && since === record.since ? 'renewal' : undefined;
}
