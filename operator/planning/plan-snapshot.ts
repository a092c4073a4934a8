import type { SnapshotRequestInput } from '../../agent/api/contract/snapshots.ts';
import type { SnapshotView } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { type Finding, isConditionTrue, setConditions } from '../resources/conditions.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { type SnapshotSpec, type SnapshotStatus, snapshots } from '../resources/snapshot.ts';
import { acceptedPart, describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { type AgentAction, actionKey, type Failure, failureOf } from './actions.ts';
import { claimFindings, claimStatus, standingClaimReasons } from './claim-status.ts';
import { failureReason, notReady, notReadyAfter, unseen } from './findings.ts';
import { givenUpFinding, groupBrokenReason, hooksFailedReason, skippedReason } from './given-up.ts';
import { type Blocker, blockedFinding, isAbandoned, isDeleting, isHeld, type ObjectPlan } from './object-plan.ts';
import {
  complete,
  consistencyReached,
  type HookAction,
  type HookStep,
  hooksFinding,
  nextHookStep,
  openAttempt,
  withdraw,
} from './plan-hooks.ts';
import { locateSource, type SnapshotPlace } from './snapshot-source.ts';
import { agentSnapshotName, type GroupFact, type SnapshotWorld } from './snapshot-world.ts';
import { isInStaleCopy } from './stale-copies.ts';

export interface SnapshotPlan extends ObjectPlan<SnapshotStatus> {
  readonly actions: readonly AgentAction[];
  /** To be done before anything is written. */
  readonly hookAction?: HookAction | undefined;
  readonly settled: boolean;
  /** Its retention is over: the object is to be deleted. */
  readonly expired: boolean;
  /** When its retention ends, in milliseconds since 1970. */
  readonly expiresAtMs?: number | undefined;
}

/**
 * Plans one snapshot. Where it is requested and where it will be is written down before it is requested, so that whatever
 * happens afterwards it can be found again, and deleted. A request that was accepted is repeated until the snapshot is
 * Ready: the agent answers what became of it.
 */
export function planSnapshot(world: SnapshotWorld): SnapshotPlan {
  const { snapshot } = world;
  if (isDeleting(snapshot)) return planDeletion(world);
  const spec = validateSpec(snapshots, snapshot.spec, snapshot.status?.accepted);
  if (!spec.ok) return obstructed(world, notReady('Invalid', describeViolations(spec.violations)));
  if (snapshot.status?.takenAt !== undefined) return planKept(world, snapshot.status, spec.value);
  const place = locateSource(world, spec.value);
  if (!place.ok) return obstructed(world, notReady(place.reason, place.message));
  return planRequest(world, spec.value, place);
}

/** Nothing can be asked for; an attempt that is open is ended. */
function obstructed(world: SnapshotWorld, finding: Finding): SnapshotPlan {
  const { snapshot, hooks } = world;
  const status = snapshot.status ?? {};
  const open = openAttempt(status);
  if (open === undefined || hooks === undefined) return live(world, status, [finding]);
  return hookPlan(world, status, withdraw(open, hooks, world.now, finding.message), finding);
}

function planRequest(world: SnapshotWorld, spec: SnapshotSpec, place: SnapshotPlace & { ok: true }): SnapshotPlan {
  const { snapshot, hooks } = world;
  const { node, requestedFrom, volume, copy } = place;
  const where: SnapshotStatus = { node, requestedFrom, volume, copy, snapshot: agentSnapshotName(snapshot) };
  const kept = snapshot.status?.hooks === undefined ? {} : { hooks: snapshot.status.hooks };
  const status = { ...where, ...kept, accepted: acceptedPart(snapshots, spec) };
  const recorded = isHeld(snapshot) && sameWhere(snapshot.status, where);
  if (!recorded) return live(world, status, [notReady('Pending', `it is being requested from node ${requestedFrom}`)]);
  if (world.group !== undefined) return planMember(world, world.group, spec, place, status);
  const isOpen = openAttempt(status) !== undefined;
  const givenUp = givenUpFinding(snapshot);
  if (givenUp !== undefined && !isOpen) return live(world, status, [givenUp]);
  // One that an earlier attempt made is taken as its record describes it: applications are not held for it again.
  if (hooks === undefined || (!isOpen && world.held?.kind === 'present')) return planPut(world, spec, place, status);
  if (!isOpen && !isInSync(world)) {
    return live(world, status, [notReady('MirrorNotInSync', 'its hooks are run when the mirror is in sync')]);
  }
  const step = nextHookStep(status, hooks, world);
  return step.type === 'request'
    ? planPut(world, spec, place, { ...status, hooks: step.hooks })
    : hookPlan(world, status, step, notReady('Pending', 'its hooks are being run'));
}

/** Its barrier is sent by its group; here it is only asked what became of it. */
function planMember(
  world: SnapshotWorld,
  group: GroupFact,
  spec: SnapshotSpec,
  place: SnapshotPlace & { ok: true },
  status: SnapshotStatus,
): SnapshotPlan {
  const { held } = world;
  if (group.attempt === undefined) {
    const message = `it is taken together with the others of SnapshotGroup ${group.name}`;
    return live(world, status, [notReady(waitingForGroupReason, message)]);
  }
  if (held?.kind === 'present' && held.view.state !== 'Waiting')
    return described(world, { ...status, ...measured(held.view) }, held.view, spec);
  return planPut(world, spec, place, status);
}

const waitingForGroupReason = 'WaitingForGroup';

/** A mirror that would only refuse is no reason to hold applications. An asynchronous one is never InSync. */
function isInSync({ mirror }: SnapshotWorld): boolean {
  return (
    mirror === undefined || mirror.spec.mode === 'Asynchronous' || isConditionTrue(mirror.status?.conditions, 'InSync')
  );
}

function hookPlan(
  world: SnapshotWorld,
  status: SnapshotStatus,
  step: Exclude<HookStep, { type: 'request' }>,
  finding: Finding,
): SnapshotPlan {
  switch (step.type) {
    case 'write':
      return live(world, { ...status, hooks: step.hooks }, [finding]);
    case 'act':
      return { ...live(world, status, [finding]), hookAction: step.action };
    case 'wait':
      return live(world, status, [step.finding]);
  }
}

/** Asks for the snapshot; with hooks, while applications are held, and once more for what was written down of it. */
function planPut(
  world: SnapshotWorld,
  spec: SnapshotSpec,
  place: SnapshotPlace & { ok: true },
  status: SnapshotStatus,
): SnapshotPlan {
  const session = world.hooks?.session;
  const action: AgentAction = {
    type: 'put-snapshot',
    node: place.requestedFrom,
    volume: place.volume,
    snapshot: agentSnapshotName(world.snapshot),
    request: toRequest(spec, place.mirror, session?.attempt, world.group?.attempt),
  };
  const outcome = world.outcomes.get(actionKey(action));
  if (outcome === undefined)
    return { ...live(world, status, [notReady('Pending', 'it is being requested')]), actions: [action] };
  if (!outcome.ok) return refused(world, status, refusal(outcome.failure, world, place, spec), outcome.failure);
  if (outcome.snapshot === undefined) return live(world, status, [notReady('Pending', 'it has been requested')]);
  const open = openAttempt(status);
  if (open !== undefined && outcome.snapshot.takenAt !== undefined)
    return {
      ...live(world, status, [notReady('Pending', 'its post hooks are being run')]),
      hookAction: complete(open),
    };
  const consistency = consistencyReached(outcome.snapshot, session);
  const taken = { ...status, ...measured(outcome.snapshot), ...(consistency === undefined ? {} : { consistency }) };
  return described(world, taken, outcome.snapshot, spec);
}

/** What an agent refused ends the attempt; while it does not answer, it is asked again until the deadline. */
function refused(world: SnapshotWorld, status: SnapshotStatus, finding: Finding, failure: Failure): SnapshotPlan {
  const open = openAttempt(status);
  if (open === undefined || world.hooks === undefined || !failure.answered) return live(world, status, [finding]);
  return hookPlan(world, status, withdraw(open, world.hooks, world.now, failure.message), finding);
}

function sameWhere(status: SnapshotStatus | undefined, where: SnapshotStatus): boolean {
  return (['node', 'requestedFrom', 'volume', 'copy', 'snapshot'] as const).every(
    (field) => status?.[field] === where[field],
  );
}

function toRequest(
  spec: SnapshotSpec,
  mirror: string | undefined,
  hooks: string | undefined,
  group: string | undefined,
): SnapshotRequestInput {
  const { lull, freeze } = spec.consistency;
  return {
    ...(mirror === undefined ? {} : { mirror }),
    ...(lull === undefined
      ? {}
      : {
          lull: {
            quietForMs: parseDurationMs(lull.quietFor),
            thresholdBytesPerSecond: parseQuantity(lull.thresholdPerSecond),
            timeoutMs: parseDurationMs(lull.timeout),
            onTimeout: lull.onTimeout === 'Take' ? 'take' : 'fail',
          },
        }),
    ...(freeze === undefined ? {} : { freeze: { timeoutMs: parseDurationMs(freeze.timeout) } }),
    ...(hooks === undefined ? {} : { hooks }),
    ...(group === undefined ? {} : { group }),
  };
}

/** Why the agent refused, as the reason that tells what to do. It is asked again, less and less often. */
function refusal(
  failure: Failure,
  world: SnapshotWorld,
  place: SnapshotPlace & { ok: true },
  spec: SnapshotSpec,
): Finding {
  // A barrier of its own would not be of the moment of the others.
  if (failure.answered && world.group !== undefined) return notReady(groupBrokenReason, failure.message);
  // Nothing but a lull that did not come is answered so.
  if (failure.answered && failure.code === 'Timeout' && spec.consistency.lull?.onTimeout === 'Skip')
    return notReady(skippedReason, `${failure.message}; it is not tried again`);
  if (failure.answered && (failure.code === 'NotReady' || failure.code === 'Unavailable'))
    return notReady(place.mirror === undefined ? 'NotReady' : 'MirrorNotInSync', failure.message);
  const view = world.holder?.kind === 'present' ? world.holder.view : undefined;
  const maxSnapshots = view?.buffer?.maxSnapshots;
  if (
    failure.code === 'NoSpace' &&
    maxSnapshots !== undefined &&
    view !== undefined &&
    view.snapshots.length >= maxSnapshots
  ) {
    return notReady(
      'MaxSnapshotsReached',
      `${failure.message} (${maxSnapshots} snapshots are kept there; delete one, or raise buffer.maxSnapshots)`,
    );
  }
  return notReadyAfter(failure);
}

/** A snapshot that was taken: it is only looked after. */
function planKept(world: SnapshotWorld, status: SnapshotStatus, spec: SnapshotSpec): SnapshotPlan {
  const { held } = world;
  const node = status.node ?? '';
  if (held === undefined) return live(world, status, [notReady('Pending', `node ${node} has not been asked yet`)]);
  switch (held.kind) {
    case 'present':
      return described(world, { ...status, ...measured(held.view), ...keptConsistency(status) }, held.view, spec);
    case 'absent':
      return live(world, status, [
        notReady('Lost', `node ${node} does not have it any more: its copy of the volume was removed or lost`),
      ]);
    default: {
      const { reason, message } = unseen(node, held);
      if (isInStaleCopy(world.volume, world.snapshot)) {
        const lost = `it was lost with node ${node}, whose copy of the volume was given up (${message})`;
        return live(world, status, [notReady('LostWithNode', `${lost}; it can be read again if that is ever back`)]);
      }
      return live(world, status, [{ type: 'Ready', status: 'Unknown', reason, message }]);
    }
  }
}

/** That applications were held is known by the operator alone; the rest stands in the snapshot's record. */
function keptConsistency({ consistency }: SnapshotStatus): SnapshotStatus {
  return consistency === 'application' ? { consistency } : {};
}

function described(world: SnapshotWorld, status: SnapshotStatus, view: SnapshotView, spec: SnapshotSpec): SnapshotPlan {
  const deleteAfter = spec.retention?.deleteAfter;
  const expiresAtMs =
    deleteAfter === undefined || status.takenAt === undefined
      ? undefined
      : Date.parse(status.takenAt) + parseDurationMs(deleteAfter);
  const expired = expiresAtMs !== undefined && expiresAtMs <= world.nowMs;
  return {
    ...live(world, status, [viewFinding(view), ...hooksFinding(status)]),
    expired,
    ...(expired ? {} : { expiresAtMs }),
  };
}

function viewFinding(view: SnapshotView): Finding {
  if (view.state === 'Waiting') {
    return notReady('Waiting', view.reason ?? 'its barrier is still to come');
  }
  if (view.state === 'Invalid' || !view.valid) {
    return notReady('Invalidated', view.reason ?? 'its content is lost');
  }
  return { type: 'Ready', status: 'True', reason: 'Taken', message: 'its content can be read' };
}

function measured(view: SnapshotView): SnapshotStatus {
  if (view.state === 'Waiting') return {};
  const { takenAt, consistency, size, bufferBytes, exclusiveBytes, readers, lull, frozenMs } = view;
  return {
    ...(takenAt === undefined ? {} : { takenAt }),
    ...(consistency === undefined ? {} : { consistency }),
    ...(size === undefined ? {} : { sizeBytes: size }),
    ...(lull === undefined ? {} : { lull: lullStatus(lull) }),
    ...(frozenMs === undefined ? {} : { frozenMilliseconds: Math.ceil(frozenMs) }),
    bufferBytes,
    exclusiveBytes,
    readers,
  };
}

function lullStatus({ found, waitedMs, bytesPerSecond }: NonNullable<SnapshotView['lull']>): SnapshotStatus['lull'] {
  return { found, waitedMilliseconds: Math.ceil(waitedMs), bytesPerSecond: Math.ceil(bytesPerSecond) };
}

function live(world: SnapshotWorld, measured: SnapshotStatus, stated: readonly Finding[]): SnapshotPlan {
  const { snapshot } = world;
  const { persistentVolumeName: _, claimName: __, ...rest } = measured;
  const status = { ...rest, ...claimStatus(snapshot.status, world.claim) };
  const findings = [...stated, ...claimFindings(world.claim)];
  return {
    status: withConditions(world, status, findings),
    finalizer: isHeld(snapshot) ? 'keep' : 'hold',
    actions: [],
    settled: findings.every(({ status: state, reason }) => state === 'True' || standing.includes(reason)),
    expired: false,
  };
}

/** Reasons that only a change of an object, or nothing, can end. */
const standing: readonly string[] = [
  'Invalid',
  waitingForGroupReason,
  groupBrokenReason,
  'Invalidated',
  'Lost',
  'LostWithNode',
  'NoBuffer',
  hooksFailedReason,
  skippedReason,
  'HookFailed',
  ...standingClaimReasons,
];

/**
 * Its claim goes first, so that nobody reads it any more. Then it is deleted where it is. One that was not seen Ready may still be waiting at the primary: that is told to forget it
 * first, and as long as it does not, the object stays, because the barrier would make the snapshot afterwards.
 */
function planDeletion(world: SnapshotWorld): SnapshotPlan {
  const { snapshot, requested, claim, hooks } = world;
  const open = openAttempt(snapshot.status);
  if (open !== undefined && hooks !== undefined) {
    const step = withdraw(open, hooks, world.now, 'the Snapshot was deleted');
    return hookPlan(world, snapshot.status ?? {}, step, notReady('Deleting', 'its post hooks are being run'));
  }
  if (claim?.blocker !== undefined && !isAbandoned(snapshot)) return going(world, [], claim.blocker);
  const { node, requestedFrom, volume, snapshot: name, takenAt } = snapshot.status ?? {};
  if (node === undefined || volume === undefined || name === undefined) return going(world, [], undefined);
  const removal = (place: string): AgentAction => ({ type: 'delete-snapshot', node: place, volume, snapshot: name });
  const removals =
    takenAt !== undefined || requestedFrom === undefined || requestedFrom === node ? [] : [removal(requestedFrom)];
  const forgetting = unfinished(world, removals);
  if (forgetting !== undefined) return forgetting;
  if (requested?.kind === 'present' && requested.view.state === 'Waiting' && !isAbandoned(snapshot)) {
    const message = `it waits for its barrier at node ${requestedFrom}, and can be removed only after that`;
    return going(world, [], { reason: 'Waiting', message });
  }
  return unfinished(world, [removal(node)]) ?? going(world, [], undefined);
}

/** The plan while removals have not been done, or have failed; undefined when they are done, or were given up. */
function unfinished(world: SnapshotWorld, removals: readonly AgentAction[]): SnapshotPlan | undefined {
  const open = removals.filter((action) => !world.outcomes.has(actionKey(action)));
  if (open.length > 0) return going(world, open, undefined);
  const failures = removals.flatMap((action) => failureOf(world.outcomes, action) ?? []);
  const [failure] = failures;
  if (failure === undefined || isAbandoned(world.snapshot)) return undefined;
  // It goes with the copy that it is in, when the node is back.
  if (!failure.answered && isInStaleCopy(world.volume, world.snapshot)) return undefined;
  const message = `it could not be removed from its node: ${failure.message}`;
  return going(world, [], { reason: failureReason(failure), message });
}

function going(world: SnapshotWorld, actions: readonly AgentAction[], blocker: Blocker | undefined): SnapshotPlan {
  const { snapshot } = world;
  const released = actions.length === 0 && blocker === undefined;
  const findings = [notReady('Deleting', 'it is being deleted')];
  if (blocker !== undefined) findings.push(blockedFinding(blocker));
  return {
    status: withConditions(world, snapshot.status ?? {}, findings),
    finalizer: released && isHeld(snapshot) ? 'release' : 'keep',
    actions,
    settled: false,
    expired: false,
  };
}

function withConditions(world: SnapshotWorld, status: SnapshotStatus, findings: readonly Finding[]): SnapshotStatus {
  const { generation } = world.snapshot.metadata;
  return {
    ...status,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: setConditions(world.snapshot.status?.conditions, findings, { now: world.now, generation }),
  };
}
