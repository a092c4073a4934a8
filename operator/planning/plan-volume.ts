import type { ArbiterRecord } from '../../agent/api/contract/arbiter-record.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { Validation } from '../../common/validation.ts';
import { type Finding, setConditions } from '../resources/conditions.ts';
import { discardAnnotation, rebuildAnnotation } from '../resources/group.ts';
import {
  originCopy,
  type PrimaryVolume,
  type PrimaryVolumeSpec,
  type PrimaryVolumeStatus,
  primaryVolumes,
  type StaleCopy,
  type VolumeCopy,
} from '../resources/primary-volume.ts';
import { type StandbyMirror, type StandbyMirrorStatus, standbyMirrors } from '../resources/standby-mirror.ts';
import { acceptedPart, describeViolations } from '../resources/validate-spec.ts';
import type { AgentAction } from './actions.ts';
import { discardedRecord, firstRecord } from './arbiter-records.ts';
import { claimFindings, claimStatus, standingClaimReasons } from './claim-status.ts';
import { divergenceFindings, divergentCopies } from './divergence.ts';
import { failoverReadyFinding } from './failover-candidates.ts';
import { notReady } from './findings.ts';
import { type MirrorContext, type MirrorFact, mirrorFacts } from './mirror-facts.ts';
import { bufferFinding, measuredStatus } from './mirror-status.ts';
import { blockedFinding, isDeleting, isHeld, type ObjectPlan } from './object-plan.ts';
import { place } from './placement.ts';
import { type DeletionStep, planMirrorDeletion, planVolumeDeletion } from './plan-deletion.ts';
import { type Eviction, planEviction } from './plan-eviction.ts';
import { planFailover } from './plan-failover.ts';
import { type MirrorStep, planMirror, planStandbyLinks } from './plan-mirror.ts';
import { planPrimary } from './plan-primary.ts';
import { isRebuildOrdered, planRebuilds, type RebuildPlan } from './plan-rebuild.ts';
import { filledFindings } from './plan-source.ts';
import { planStaleCopies } from './plan-stale-copies.ts';
import { findPrimary, type PrimaryFact } from './primary.ts';
import { sameCopy } from './stale-copies.ts';
import { copiesStatus, primaryFinding, protectedFinding } from './volume-status.ts';
import { agentVolumeName, claimOf, type VolumeWorld, validVolumeSpec, viewOf } from './volume-world.ts';

/**
 * What is to become of a volume and its mirrors. The actions may be done only after the objects are as planned: a node that
 * was chosen is written down first, so that no restart chooses another, and a finalizer is on an object before anything is
 * created for it.
 */
export interface VolumePlan {
  readonly volume: ObjectPlan<PrimaryVolumeStatus> | undefined;
  /** By name. */
  readonly mirrors: ReadonlyMap<string, ObjectPlan<StandbyMirrorStatus>>;
  readonly actions: readonly AgentAction[];
  /** Nothing is expected to change by itself soon. */
  readonly settled: boolean;
  /** The loss of the primary is to be noticed soon. */
  readonly watchful: boolean;
  /** To be done when everything else has been. */
  readonly eviction?: Eviction | undefined;
}

/**
 * Plans a volume and its mirrors together, because they share the primary's agent. Pure and idempotent: once everything
 * planned is done and observed, planning again yields no action and the same statuses.
 *
 * It asks an agent to be primary that is not only to create the volume, or because the arbiter's record has been swapped to
 * that; to be standby that is not only to create it, or when the record names another primary; and never for an epoch below
 * the one it has.
 */
export function planVolume(world: VolumeWorld): VolumePlan {
  const { volume } = world;
  const primary = volume && findPrimary(world, volume);
  const facts = mirrorFacts(world, volume, primary);
  const spec = volume && validVolumeSpec(volume);
  const context: MirrorContext = { world, volume, volumeSpec: spec?.ok ? spec.value : undefined, primary, facts };
  const rebuilds = planRebuilds(context);
  const reversed = facts.find((fact) => fact.reversed);
  const mirrors = facts
    .filter((fact) => !fact.reversed)
    .map((fact) => planOneMirror(fact, fact.standing === 'promoted' ? reversed : undefined, context, rebuilds));
  const changes = { givenUp: rebuilds.givenUp, origin: mirrors.find(({ origin }) => origin !== undefined)?.origin };
  const main = volume && spec && planOneVolume(world, volume, spec, primary, facts, changes);
  return {
    volume: main?.plan,
    mirrors: new Map(mirrors.map(({ name, plan }) => [name, plan])),
    actions: [...mirrors.flatMap(({ actions }) => actions), ...(main?.actions ?? [])],
    settled: (main?.settled ?? true) && mirrors.every(({ settled }) => settled),
    eviction: volume && primary && !isDeleting(volume) ? planEviction(world, volume, primary, facts) : undefined,
    watchful: facts.some(({ spec: of }) => of.ok && of.value.failover.policy === 'Automatic'),
  };
}

interface Planned<Status> {
  readonly plan: ObjectPlan<Status>;
  readonly actions: readonly AgentAction[];
  readonly settled: boolean;
}

/** `reversed`: the copy that takes the place of the mirror's own, which is the primary. */
function planOneMirror(
  fact: MirrorFact,
  reversed: MirrorFact | undefined,
  context: MirrorContext,
  rebuilds: RebuildPlan,
): Planned<StandbyMirrorStatus> & { readonly name: string; readonly origin?: MirrorStep['placement'] } {
  const { mirror, name } = fact;
  if (isDeleting(mirror)) {
    const step = planMirrorDeletion(fact, context);
    const status = {
      ...kept(mirror, fact),
      ...claimStatus(mirror.status, claimOf(context.world, mirror)),
      ...measuredStatus(fact, undefined),
      ...conditions(mirror, deletionFindings(step), context.world),
    };
    const unlink = step.actions.length === 0 && !step.released ? planStandbyLinks(fact, context) : undefined;
    return { name, ...deleted(mirror, unlink === undefined ? step : { ...step, actions: [unlink] }, status) };
  }
  const step = reversed === undefined ? planMirror(fact, context) : planReversed(fact, reversed, context);
  const spec = fact.spec.ok ? fact.spec.value : undefined;
  const claim = claimOf(context.world, mirror);
  const warnings = mirrorWarnings(fact, reversed ?? fact, context);
  const findings = [...step.findings, ...(rebuilds.findings.get(name) ?? []), ...warnings, ...claimFindings(claim)];
  const refreshed =
    fact.placed !== undefined && spec !== undefined ? { accepted: acceptedPart(standbyMirrors, spec) } : {};
  const status: StandbyMirrorStatus = {
    ...kept(mirror, fact),
    ...claimStatus(mirror.status, claim),
    ...refreshed,
    ...(reversed === undefined ? step.placement : {}),
    ...measuredStatus(fact, reversed),
    ...conditions(mirror, findings, context.world),
  };
  const actions = step.action === undefined ? [] : [step.action];
  const obeyed = isRebuildOrdered(reversed ?? fact) ? [] : [rebuildAnnotation];
  const plan = { status, finalizer: isHeld(mirror) ? ('keep' as const) : ('hold' as const), obeyed };
  const origin = reversed === undefined ? undefined : step.placement;
  return { name, plan, actions, settled: isSettled(findings), ...(origin === undefined ? {} : { origin }) };
}

/** The place of a standby that was given up is not its place any more. */
function kept({ status }: StandbyMirror, { placed }: MirrorFact): StandbyMirrorStatus {
  return definedOnly({ ...placed, accepted: status?.accepted });
}

function mirrorWarnings(fact: MirrorFact, follower: MirrorFact, context: MirrorContext): Finding[] {
  if (!fact.spec.ok) return [];
  const { buffer, failover } = fact.spec.value;
  const separate = bufferFinding(context, fact.placed?.node, fact.placed?.pool, buffer?.pool);
  const automatic = failover.policy === 'Automatic' ? [failoverReadyFinding(follower, context.primary)] : [];
  return [...(separate === undefined ? [] : [separate]), ...automatic];
}

/** A mirror whose own copy is the primary goes the other way. */
function planReversed(fact: MirrorFact, reversed: MirrorFact, context: MirrorContext): MirrorStep {
  const step = planMirror(reversed, context);
  const standby =
    reversed.placed === undefined ? 'and a standby is wanted' : `the one on node ${reversed.placed.node} its standby`;
  const way = `its copy on node ${fact.placed?.node} is the primary, ${standby}`;
  const findings = step.findings.map((finding) => ({
    ...finding,
    ...(finding.status === 'True' && finding.type === 'Ready' ? { reason: 'Reversed' } : {}),
    message: `${way}: ${finding.message}`,
  }));
  return { ...step, findings };
}

/** What becomes of copies of the volume in this round. */
interface CopyChanges {
  readonly givenUp: StaleCopy | undefined;
  /** The new place of the copy that the volume began with. */
  readonly origin: MirrorStep['placement'];
}

function planOneVolume(
  world: VolumeWorld,
  volume: PrimaryVolume,
  spec: Validation<PrimaryVolumeSpec>,
  primary: PrimaryFact | undefined,
  mirrors: readonly MirrorFact[],
  changes: CopyChanges,
): Planned<PrimaryVolumeStatus> {
  if (isDeleting(volume)) return planVolumeGoing(world, volume, primary, mirrors);
  const finalizer = isHeld(volume) ? 'keep' : 'hold';
  if (primary === undefined) {
    const status = spec.ok
      ? planCreation(world, volume, spec.value)
      : unplaced(world, volume, invalid(spec.violations));
    return { plan: { status, finalizer }, actions: [], settled: status.node === undefined };
  }
  const setup = planPrimary(world, volume, spec.ok ? spec.value : undefined, primary, mirrors);
  const failover = planFailover(world, volume, primary, mirrors);
  const discard = planDiscard(volume, primary, mirrors);
  const stale = planStaleCopies(world, volume, primary, mirrors);
  const findings = [
    spec.ok ? primaryFinding(volume, primary) : invalid(spec.violations),
    protectedFinding(primary, mirrors),
    setup.configured,
    ...filledFindings(primary),
    ...failover.findings,
    ...divergenceFindings(primary, mirrors),
    ...stale.findings,
    ...ownBufferWarning(world, spec, primary),
    ...claimFindings(claimOf(world, volume)),
  ];
  const accepted = spec.ok ? { accepted: acceptedPart(primaryVolumes, spec.value) } : {};
  const status = {
    ...placedStatus(world, volume, primary, mirrors),
    ...changedCopies(copiesStatus(world, volume, primary, mirrors), stale.left, changes),
    ...swapped(failover.record ?? discard, mirrors),
    ...accepted,
    ...conditions(volume, findings, world),
  };
  const obeyed = [...(failover.obeyed ?? []), ...(discard === undefined ? [] : [discardAnnotation])];
  // While the primary is being replaced, nothing else is asked of it.
  const action = failover.action ?? setup.action;
  const actions = [...(action === undefined ? [] : [action]), ...stale.actions];
  return { plan: { status, finalizer, obeyed }, actions, settled: isSettled(findings) };
}

function planVolumeGoing(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact | undefined,
  mirrors: readonly MirrorFact[],
): Planned<PrimaryVolumeStatus> {
  const step = planVolumeDeletion(world, volume);
  const setup = primary && planPrimary(world, volume, undefined, primary, mirrors);
  // While dependents are waited for, the primary still has to be told of mirrors that go.
  const actions = step.actions.length === 0 && setup?.action !== undefined ? [setup.action] : step.actions;
  const placed = primary === undefined ? {} : placedStatus(world, volume, primary, mirrors);
  const stale = staleStatus(volume.status?.staleCopies);
  const status = { ...placed, ...stale, ...conditions(volume, deletionFindings(step), world) };
  return deleted(volume, { ...step, actions }, status);
}

function ownBufferWarning(world: VolumeWorld, spec: Validation<PrimaryVolumeSpec>, primary: PrimaryFact): Finding[] {
  if (!spec.ok || primary.copy !== originCopy) return [];
  const finding = bufferFinding({ world }, primary.node, primary.pool, spec.value.buffer?.pool);
  return finding === undefined ? [] : [finding];
}

function planCreation(world: VolumeWorld, volume: PrimaryVolume, spec: PrimaryVolumeSpec): PrimaryVolumeStatus {
  const placement = place(
    {
      owner: volume.metadata.uid,
      nodeName: spec.nodeName,
      nodeSelector: spec.nodeSelector,
      pool: spec.pool,
      bytes: parseQuantity(spec.size),
      buffer: spec.buffer && { pool: spec.buffer.pool, bytes: parseQuantity(spec.buffer.capacity) },
      taken: new Map(),
    },
    world.cluster,
  );
  if (!placement.ok) return unplaced(world, volume, notReady(placement.reason, placement.message));
  const { node } = placement;
  const creating = notReady('Pending', `it is being created on node ${node}`);
  return {
    node,
    pool: spec.pool,
    epoch: 1,
    volume: agentVolumeName(volume),
    copies: [{ name: originCopy, node, pool: spec.pool, role: 'Primary', state: 'Pending' }],
    arbiter: firstRecord({ node, copy: originCopy }, 1),
    accepted: acceptedPart(primaryVolumes, spec),
    ...conditions(volume, [creating, protectedFinding(undefined, [])], world),
  };
}

/** A copy that is given up leaves the list of copies in the very write that puts it into the other one. */
function changedCopies(
  copies: readonly VolumeCopy[],
  left: readonly StaleCopy[],
  { givenUp, origin }: CopyChanges,
): Pick<PrimaryVolumeStatus, 'copies' | 'staleCopies'> {
  const { node, pool } = origin ?? {};
  const placed: VolumeCopy[] =
    node === undefined || pool === undefined
      ? []
      : [{ name: originCopy, node, pool, role: 'Standby', state: 'Pending' }];
  if (givenUp === undefined) return { copies: [...copies, ...placed], ...staleStatus(left) };
  return { copies: copies.filter((copy) => !sameCopy(copy, givenUp)), ...staleStatus([...left, givenUp]) };
}

function staleStatus(staleCopies: readonly StaleCopy[] | undefined): Pick<PrimaryVolumeStatus, 'staleCopies'> {
  return staleCopies === undefined || staleCopies.length === 0 ? {} : { staleCopies: [...staleCopies] };
}

/** The swap, and what follows from it for those who read the status. */
function swapped(
  record: ArbiterRecord | undefined,
  mirrors: readonly MirrorFact[],
): Pick<PrimaryVolumeStatus, 'arbiter' | 'node' | 'pool' | 'epoch'> {
  if (record === undefined) return {};
  const pool = mirrors.find(({ name }) => name === record.copy)?.placed?.pool;
  return { arbiter: record, node: record.node, epoch: record.epoch, ...(pool === undefined ? {} : { pool }) };
}

function planDiscard(
  volume: PrimaryVolume,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): ArbiterRecord | undefined {
  const copy = volume.metadata.annotations?.[discardAnnotation];
  if (copy === undefined || primary.trouble !== undefined || !divergentCopies(primary, mirrors).includes(copy))
    return undefined;
  return discardedRecord(primary.record, copy);
}

function unplaced(world: VolumeWorld, volume: PrimaryVolume, finding: Finding): PrimaryVolumeStatus {
  return conditions(volume, [finding], world);
}

function placedStatus(
  world: VolumeWorld,
  volume: PrimaryVolume,
  primary: PrimaryFact,
  mirrors: readonly MirrorFact[],
): PrimaryVolumeStatus {
  const view = viewOf(primary.observation);
  const { status } = volume;
  return definedOnly({
    node: primary.node,
    pool: primary.pool,
    epoch: primary.epoch,
    volume: agentVolumeName(volume),
    sizeBytes: view?.size ?? status?.sizeBytes,
    nbd: view?.nbd ?? status?.nbd,
    ...claimStatus(status, claimOf(world, volume)),
    copies: copiesStatus(world, volume, primary, mirrors),
    arbiter: primary.trouble === undefined ? primary.record : status?.arbiter,
    accepted: status?.accepted,
  });
}

function invalid(violations: Parameters<typeof describeViolations>[0]): Finding {
  return notReady('Invalid', describeViolations(violations));
}

function deleted<Status>(object: PrimaryVolume | StandbyMirror, step: DeletionStep, status: Status): Planned<Status> {
  const finalizer = step.released && isHeld(object) ? 'release' : 'keep';
  return { plan: { status, finalizer }, actions: step.released ? [] : step.actions, settled: false };
}

function deletionFindings(step: DeletionStep): Finding[] {
  const going = notReady('Deleting', 'it is being deleted');
  return step.blocker === undefined ? [going] : [going, blockedFinding(step.blocker)];
}

function conditions(
  object: PrimaryVolume | StandbyMirror,
  findings: readonly Finding[],
  world: VolumeWorld,
): Pick<PrimaryVolumeStatus, 'observedGeneration' | 'conditions'> {
  const { generation } = object.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: setConditions(object.status?.conditions, findings, { now: world.now, generation }),
  };
}

/** Whether these findings change only when an object does, or are as they should be. */
function isSettled(findings: readonly Finding[]): boolean {
  const standing = [
    'Invalid',
    'VolumeNotFound',
    'VolumeReplaced',
    'Promoted',
    'FormerPrimary',
    'NoMirror',
    'SameDisk',
    'Asynchronous',
    'MirrorNotFound',
    'NotSupported',
    ...standingClaimReasons,
    'NoArbiter',
  ];
  return findings.every(({ status, reason }) => status === 'True' || standing.includes(reason));
}

type Defined<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };

function definedOnly<T extends object>(value: T): Partial<Defined<T>> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Partial<Defined<T>>;
}
