import type { MirrorView, VolumeView } from '../../agent/api/contract/volumes.ts';
import type { Validation } from '../../common/validation.ts';
import { originCopy, type PrimaryVolume, type PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import { type StandbyMirror, type StandbyMirrorSpec, standbyMirrors } from '../resources/standby-mirror.ts';
import { validateSpec } from '../resources/validate-spec.ts';
import type { Observation } from './actions.ts';
import { isDeleting, isHeld } from './object-plan.ts';
import type { PrimaryFact } from './primary.ts';
import { isGivenUp, wasGivenUp } from './stale-copies.ts';
import { agentVolumeName, observe, type VolumeWorld, viewOf } from './volume-world.ts';

/** What is known about one mirror of a volume. */
export interface MirrorFact {
  readonly mirror: StandbyMirror;
  /** Of the copy, which is also that of the primary's link to it. */
  readonly name: string;
  /**
   * The copy is not the one that was made for the mirror, but the one that the volume was created with: since the mirror's
   * own copy has become the primary, the mirror goes the other way.
   */
  readonly reversed: boolean;
  /** What the copy's snapshot buffer is to be. */
  readonly buffer: PrimaryVolumeSpec['buffer'];
  readonly spec: Validation<StandbyMirrorSpec>;
  /** Where its copy is, once it has been placed. */
  readonly placed: { readonly node: string; readonly pool: string; readonly volume: string } | undefined;
  /** host:port of its agent's mirror listener. */
  readonly address: string | undefined;
  readonly observation: Observation | undefined;
  readonly view: VolumeView | undefined;
  /** The standby that feeds it, of a cascade; undefined if the primary does. */
  readonly upstream: MirrorFact | undefined;
  /** The view that whoever feeds it has of the link to it. */
  readonly link: MirrorView | undefined;
  readonly standing: MirrorStanding;
}

/** What the plan of every mirror of a volume depends on. */
export interface MirrorContext {
  readonly world: VolumeWorld;
  readonly volume: PrimaryVolume | undefined;
  /** Undefined while the volume's spec is invalid. */
  readonly volumeSpec: PrimaryVolumeSpec | undefined;
  readonly primary: PrimaryFact | undefined;
  /** Of all mirrors of the volume. */
  readonly facts: readonly MirrorFact[];
}

export type MirrorStanding =
  | 'unplaced'
  /** Its copy follows the primary, or is to. */
  | 'standby'
  /** Its copy is the primary now. */
  | 'promoted'
  /** Its copy was the primary in an older epoch. */
  | 'former'
  /** Its copy was told of a newer epoch than the volume's: someone is promoting it at this moment. */
  | 'being-promoted'
  /** Its copy is of another PrimaryVolume that had the same name. */
  | 'foreign';

export function mirrorFacts(
  world: VolumeWorld,
  volume: PrimaryVolume | undefined,
  primary: PrimaryFact | undefined,
): MirrorFact[] {
  const own = world.mirrors.map((mirror) => {
    const { node, pool, volume: name } = mirror.status ?? {};
    const placed =
      node === undefined || pool === undefined || name === undefined || isGivenUp(volume, mirror.metadata.name, node)
        ? undefined
        : { node, pool, volume: name };
    const spec = validateSpec(standbyMirrors, mirror.spec, mirror.status?.accepted);
    const buffer = spec.ok ? spec.value.buffer : undefined;
    const copy = { mirror, name: mirror.metadata.name, reversed: false, buffer, spec, placed };
    return { ...copy, upstream: undefined, ...seenOf(copy, world, volume, primary) };
  });
  const reversed = reversedFact(own, world, volume, primary);
  const facts = own.map((fact) => withUpstream(fact, own));
  return reversed === undefined ? facts : [...facts, reversed];
}

/** A cascade's link is its standby's, unless that has become the primary. */
function withUpstream(fact: MirrorFact, facts: readonly MirrorFact[]): MirrorFact {
  const upstream = facts.find(({ name }) => name === upstreamName(fact));
  if (upstream === undefined || upstream.standing === 'promoted') return fact;
  return { ...fact, upstream, link: upstream.view?.mirrors.find(({ name }) => name === fact.name) };
}

/** The mirror that a cascade names; undefined for a mirror of the primary. */
export function upstreamName({ mirror }: Pick<MirrorFact, 'mirror'>): string | undefined {
  return mirror.spec.mirrorRef?.name;
}

/** The copy that feeds it: where it is, and what is seen of it. */
export function feederOf(
  { upstream }: MirrorFact,
  primary: PrimaryFact | undefined,
): { readonly what: string; readonly node: string; readonly observation: Observation } | undefined {
  if (upstream === undefined) return primary && { what: 'the primary', ...primary };
  const { placed, observation, name } = upstream;
  return placed && observation && { what: `the standby of ${name}`, node: placed.node, observation };
}

type CopyOfMirror = Pick<MirrorFact, 'mirror' | 'name' | 'reversed' | 'buffer' | 'spec' | 'placed'>;

/** The copy that the volume was created with, behind the mirror whose own copy is the primary now. */
function reversedFact(
  facts: readonly MirrorFact[],
  world: VolumeWorld,
  volume: PrimaryVolume | undefined,
  primary: PrimaryFact | undefined,
): MirrorFact | undefined {
  const promoted = facts.find(({ standing }) => standing === 'promoted');
  const origin = volume?.status?.copies?.find(({ name }) => name === originCopy);
  if (volume === undefined || promoted === undefined || isDeleting(promoted.mirror)) return undefined;
  if (origin === undefined && !wasGivenUp(volume, originCopy)) return undefined;
  const copy: CopyOfMirror = {
    mirror: promoted.mirror,
    name: originCopy,
    reversed: true,
    buffer: volume.spec.buffer,
    spec: promoted.spec,
    placed: origin && { node: origin.node, pool: origin.pool, volume: agentVolumeName(volume) },
  };
  return { ...copy, upstream: undefined, ...seenOf(copy, world, volume, primary) };
}

function seenOf(
  { name, placed }: CopyOfMirror,
  world: VolumeWorld,
  volume: PrimaryVolume | undefined,
  primary: PrimaryFact | undefined,
): Pick<MirrorFact, 'address' | 'observation' | 'view' | 'link' | 'standing'> {
  const observation = placed && observe(world, placed.node, placed.volume);
  const view = observation && viewOf(observation);
  return {
    address: placed && world.cluster.mirrorAddresses.get(placed.node),
    observation,
    view,
    link: primary && viewOf(primary.observation)?.mirrors.find((link) => link.name === name),
    standing: standingOf(placed, view, volume, primary),
  };
}

function standingOf(
  placed: MirrorFact['placed'],
  view: VolumeView | undefined,
  volume: PrimaryVolume | undefined,
  primary: PrimaryFact | undefined,
): MirrorStanding {
  if (placed === undefined) return 'unplaced';
  if (volume === undefined) return 'standby';
  if (placed.volume !== agentVolumeName(volume)) return 'foreign';
  if (primary?.node === placed.node) return 'promoted';
  if (view === undefined || primary === undefined) return 'standby';
  if (Math.max(view.epoch, view.prepared ?? 0) > primary.epoch) return 'being-promoted';
  return view.role === 'primary' ? 'former' : 'standby';
}

/** Whether there is to be a link to it: its standby is there, and nothing speaks against it. */
export function isLinkable(fact: MirrorFact): boolean {
  return (
    fact.standing === 'standby' &&
    fact.spec.ok &&
    fact.view !== undefined &&
    isHeld(fact.mirror) &&
    !isDeleting(fact.mirror)
  );
}
