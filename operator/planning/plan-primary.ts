import type { VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { Finding } from '../resources/conditions.ts';
import { originCopy, type PrimaryVolume, type PrimaryVolumeSpec } from '../resources/primary-volume.ts';
import { type AgentAction, failureOf } from './actions.ts';
import { arbiterKeyOf } from './arbiter-records.ts';
import { changedCopySpec, isAsSpecified, newCopySpec } from './copy-spec.ts';
import { failureReason } from './findings.ts';
import { isLinkable, type MirrorFact } from './mirror-facts.ts';
import { isDeleting, isHeld } from './object-plan.ts';
import { wantedLinks } from './plan-links.ts';
import { movedSource, planSource } from './plan-source.ts';
import type { PrimaryFact } from './primary.ts';
import { agentVolumeName, type VolumeWorld } from './volume-world.ts';

/** What the primary's agent is to be told, and how that is going. */
export interface PrimaryPlan {
  readonly action: AgentAction | undefined;
  readonly configured: Finding;
}

/**
 * The primary is created, then told of its mirrors, its buffer and its size. It is told of a role or an epoch that it does
 * not have only when the record has been swapped to just that (`due`).
 * @param spec undefined while the spec is invalid: then nothing but the links changes.
 */
export function planPrimary(
  world: VolumeWorld,
  volume: PrimaryVolume,
  spec: PrimaryVolumeSpec | undefined,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): PrimaryPlan {
  const wanted = wantedSpec(world, volume, spec, primary, mirrors);
  if (wanted === undefined) return { action: undefined, configured: pending('there is no primary to set up yet') };
  const action = {
    type: 'put-volume',
    node: primary.node,
    volume: agentVolumeName(volume),
    spec: wanted.spec,
  } as const;
  const failure = failureOf(world.outcomes, action);
  const configured: Finding = {
    type: 'Configured',
    status: wanted.needed ? 'False' : 'True',
    reason: failure ? failureReason(failure) : (wanted.waitsFor?.reason ?? (wanted.needed ? 'Pending' : 'AsSpecified')),
    message:
      failure?.message ??
      wanted.waitsFor?.message ??
      (wanted.needed ? 'the primary is being set up' : 'the primary is as specified'),
  };
  const waiting = wanted.waitsFor !== undefined;
  return {
    action: wanted.needed && failure === undefined ? action : undefined,
    configured: waiting ? { ...configured, status: 'False' } : configured,
  };
}

function pending(message: string): Finding {
  return { type: 'Configured', status: 'False', reason: 'Pending', message };
}

interface Wanted {
  readonly spec: VolumeSpecInput;
  readonly needed: boolean;
  readonly waitsFor?: { readonly reason: string; readonly message: string } | undefined;
}

function wantedSpec(
  world: VolumeWorld,
  volume: PrimaryVolume,
  spec: PrimaryVolumeSpec | undefined,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): Wanted | undefined {
  if (primary.trouble !== undefined || !isHeld(volume)) return undefined;
  const { observation } = primary;
  if (observation.kind === 'absent') return creation(world, volume, spec, primary);
  if (observation.kind !== 'present' || !takesChanges(observation.view)) return undefined;
  const { view } = observation;
  const links = wantedLinks(volume, view, mirrors, undefined);
  // A change of role is that alone: so the stack can stay open under those who read its snapshots.
  const size = primary.due === undefined ? wantedSize(spec, view, mirrors) : { bytes: view.size };
  const recorded = volume.status?.copies?.find((copy) => copy.name === primary.copy)?.onLoss;
  const arbitrated = view.arbiter?.available === true;
  const onLoss = wantedOnLoss(mirrors, arbitrated) ?? recorded ?? 'suspend';
  const ofSize = (bytes: number) =>
    changedCopySpec(view, volume, {
      role: 'primary',
      epoch: primary.due === undefined ? view.epoch : primary.record.epoch,
      arbiterKey: arbitrated ? arbiterKeyOf(volume) : undefined,
      readersEnd: primary.due === 'promotion' && primary.record.readersEnd === true,
      acceptDataLoss: primary.due === 'promotion' && primary.record.lossAccepted === true,
      size: bytes,
      buffer: primary.due === undefined ? primaryBuffer(spec, primary, mirrors) : undefined,
      source: movedSource(world.source, view),
      mirrors: links,
      onLoss,
    });
  const onLossDiffers = links.length > 0 && recorded !== onLoss;
  // Growth comes last: it may be refused for as long as the volume is in use, and must not hold up what is not.
  const unchanged = ofSize(view.size);
  const changed = onLossDiffers || !isAsSpecified(view, unchanged) ? unchanged : ofSize(size.bytes);
  return { spec: changed, needed: onLossDiffers || !isAsSpecified(view, changed), waitsFor: size.waitsFor };
}

/** Created once only: a primary that was there and is not any more is a loss, which an empty one would hide. */
function creation(
  world: VolumeWorld,
  volume: PrimaryVolume,
  spec: PrimaryVolumeSpec | undefined,
  primary: PrimaryFact,
): Wanted | undefined {
  const recorded = volume.status?.copies?.find((copy) => copy.name === primary.copy);
  if (spec === undefined || recorded?.state !== 'Pending' || isDeleting(volume)) return undefined;
  const { pool, epoch } = primary;
  const created = newCopySpec(volume, spec, { pool, role: 'primary', epoch, buffer: spec.buffer });
  if (spec.source === undefined) return { spec: created, needed: true };
  const source = planSource(world.source, volume, spec.source.restore, primary.node);
  if (source.origin === undefined) return { spec: created, needed: false, waitsFor: source };
  return { spec: { ...created, source: source.origin }, needed: true };
}

function takesChanges(view: VolumeView): boolean {
  return view.state === 'Ready' || view.state === 'Suspended';
}

function primaryBuffer(
  spec: PrimaryVolumeSpec | undefined,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): PrimaryVolumeSpec['buffer'] {
  if (primary.copy === originCopy) return spec?.buffer;
  const promoted = mirrors.find(({ name }) => name === primary.copy);
  return promoted?.spec.ok ? promoted.spec.value.buffer : undefined;
}

/** One setting for all standbys of a volume: it suspends if any of its mirrors asks for that. Going on needs an arbiter, or a word. */
function wantedOnLoss(mirrors: readonly MirrorFact[], arbitrated: boolean): 'suspend' | 'continue' | undefined {
  const asked = mirrors
    .filter(isLinkable)
    .flatMap(({ spec }) =>
      spec.ok && spec.value.mode === 'Synchronous' ? [spec.value.onLoss ?? (arbitrated ? 'Continue' : 'Suspend')] : [],
    );
  if (asked.length === 0) return undefined;
  return asked.includes('Suspend') ? 'suspend' : 'continue';
}

/** A primary grows when every standby that it is linked to has grown: it must never be larger than one of them. */
function wantedSize(
  spec: PrimaryVolumeSpec | undefined,
  view: VolumeView,
  mirrors: readonly MirrorFact[],
): { readonly bytes: number; readonly waitsFor?: { readonly reason: string; readonly message: string } } {
  const wanted = spec === undefined ? view.size : parseQuantity(spec.size);
  if (wanted <= view.size) return { bytes: view.size };
  const smaller = mirrors.filter(
    (fact) => fact.link !== undefined && !isDeleting(fact.mirror) && (fact.view?.size ?? 0) < wanted,
  );
  if (smaller.length === 0) return { bytes: wanted };
  const names = smaller.map(({ name }) => name).join(', ');
  return {
    bytes: view.size,
    waitsFor: { reason: 'Resizing', message: `waits until the standby of ${names} has grown` },
  };
}
