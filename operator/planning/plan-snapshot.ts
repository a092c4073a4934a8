import type { SnapshotRequestInput } from '../../agent/api/contract/snapshots.ts';
import type { SnapshotView } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { type Finding, setConditions } from '../resources/conditions.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { type SnapshotSpec, type SnapshotStatus, snapshots } from '../resources/snapshot.ts';
import { acceptedPart, describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { type AgentAction, actionKey, type Failure, failureOf } from './actions.ts';
import { claimFindings, claimStatus, standingClaimReasons } from './claim-status.ts';
import { failureReason, notReady, notReadyAfter, unseen } from './findings.ts';
import { type Blocker, blockedFinding, isAbandoned, isDeleting, isHeld, type ObjectPlan } from './object-plan.ts';
import { locateSource, type SnapshotPlace } from './snapshot-source.ts';
import { agentSnapshotName, type SnapshotWorld } from './snapshot-world.ts';
import { isInStaleCopy } from './stale-copies.ts';

export interface SnapshotPlan extends ObjectPlan<SnapshotStatus> {
  readonly actions: readonly AgentAction[];
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
  if (!spec.ok) return live(world, snapshot.status ?? {}, [notReady('Invalid', describeViolations(spec.violations))]);
  if (snapshot.status?.takenAt !== undefined) return planKept(world, snapshot.status, spec.value);
  const place = locateSource(world, spec.value);
  if (!place.ok) return live(world, snapshot.status ?? {}, [notReady(place.reason, place.message)]);
  return planRequest(world, spec.value, place);
}

function planRequest(world: SnapshotWorld, spec: SnapshotSpec, place: SnapshotPlace & { ok: true }): SnapshotPlan {
  const { snapshot } = world;
  const { node, requestedFrom, volume, copy } = place;
  const where: SnapshotStatus = { node, requestedFrom, volume, copy, snapshot: agentSnapshotName(snapshot) };
  const status = { ...where, accepted: acceptedPart(snapshots, spec) };
  const recorded = isHeld(snapshot) && sameWhere(snapshot.status, where);
  if (!recorded) return live(world, status, [notReady('Pending', `it is being requested from node ${requestedFrom}`)]);
  const action: AgentAction = {
    type: 'put-snapshot',
    node: requestedFrom,
    volume,
    snapshot: agentSnapshotName(snapshot),
    request: toRequest(spec, place.mirror),
  };
  const outcome = world.outcomes.get(actionKey(action));
  if (outcome === undefined)
    return { ...live(world, status, [notReady('Pending', 'it is being requested')]), actions: [action] };
  if (!outcome.ok) return live(world, status, [refusal(outcome.failure, world, place)]);
  if (outcome.snapshot === undefined) return live(world, status, [notReady('Pending', 'it has been requested')]);
  return described(world, { ...status, ...measured(outcome.snapshot) }, outcome.snapshot, spec);
}

function sameWhere(status: SnapshotStatus | undefined, where: SnapshotStatus): boolean {
  return (['node', 'requestedFrom', 'volume', 'copy', 'snapshot'] as const).every(
    (field) => status?.[field] === where[field],
  );
}

function toRequest(spec: SnapshotSpec, mirror: string | undefined): SnapshotRequestInput {
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
  };
}

/** Why the agent refused, as the reason that tells what to do. It is asked again, less and less often. */
function refusal(failure: Failure, world: SnapshotWorld, place: SnapshotPlace & { ok: true }): Finding {
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
      return described(world, { ...status, ...measured(held.view) }, held.view, spec);
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

function described(world: SnapshotWorld, status: SnapshotStatus, view: SnapshotView, spec: SnapshotSpec): SnapshotPlan {
  const deleteAfter = spec.retention?.deleteAfter;
  const expiresAtMs =
    deleteAfter === undefined || status.takenAt === undefined
      ? undefined
      : Date.parse(status.takenAt) + parseDurationMs(deleteAfter);
  const expired = expiresAtMs !== undefined && expiresAtMs <= world.nowMs;
  return { ...live(world, status, [viewFinding(view)]), expired, ...(expired ? {} : { expiresAtMs }) };
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
  const { takenAt, consistency, size, bufferBytes, exclusiveBytes, readers } = view;
  return {
    ...(takenAt === undefined ? {} : { takenAt }),
    ...(consistency === undefined ? {} : { consistency }),
    ...(size === undefined ? {} : { sizeBytes: size }),
    bufferBytes,
    exclusiveBytes,
    readers,
  };
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
  'Invalidated',
  'Lost',
  'LostWithNode',
  'NoBuffer',
  ...standingClaimReasons,
];

/**
 * Its claim goes first, so that nobody reads it any more. Then it is deleted where it is. One that was not seen Ready may still be waiting at the primary: that is told to forget it
 * first, and as long as it does not, the object stays, because the barrier would make the snapshot afterwards.
 */
function planDeletion(world: SnapshotWorld): SnapshotPlan {
  const { snapshot, requested, claim } = world;
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
