import { type Finding, findCondition, setConditions } from '../resources/conditions.ts';
import type { NewObject } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { SnapshotRestore, SnapshotRestoreStatus } from '../resources/snapshot-restore.ts';
import type { AgentAction, Observation, Outcomes } from './actions.ts';
import { notReady } from './findings.ts';
import { isHeld, type ObjectPlan } from './object-plan.ts';

/** Everything that the plan for a restore depends on. */
export interface RestoreWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly restore: SnapshotRestore;
  /** The Snapshot of its spec, and the PrimaryVolume of that, if they exist. */
  readonly snapshot: Snapshot | undefined;
  readonly volume: PrimaryVolume | undefined;
  /** With spec.newVolume: the PrimaryVolume of that name. */
  readonly target?: PrimaryVolume | undefined;
  /** The Snapshot of the name that keeps what was there before. */
  readonly before: Snapshot | undefined;
  /** What the agent of the primary says about the volume that is restored or filled; undefined while that is not known. */
  readonly primary: Observation | undefined;
  /** Where the agent that keeps the snapshot takes mirror links. */
  readonly keeperAddress: string | undefined;
  /** The pods that use the volume's claim; looked at only before it is ordered. */
  readonly users: readonly string[];
  readonly outcomes: Outcomes;
}

export interface RestorePlan extends ObjectPlan<SnapshotRestoreStatus> {
  /** The Snapshot of what is there before. */
  readonly makeBefore?: NewObject<Snapshot> | undefined;
  /** The volume that is to be filled. */
  readonly makeVolume?: NewObject<PrimaryVolume> | undefined;
  readonly actions: readonly AgentAction[];
  readonly settled: boolean;
}

export function over(world: RestoreWorld, status: SnapshotRestoreStatus, finding: Finding): RestorePlan {
  return live(world, { ...status, completedAt: world.now }, finding);
}

/** Reasons that only a change of an object can end. */
const standing: readonly string[] = [
  'Invalid',
  'Restored',
  'GivenUp',
  'Superseded',
  'NameTaken',
  'OtherVolume',
  'TooSmall',
];

export function live(world: RestoreWorld, status: SnapshotRestoreStatus, finding: Finding): RestorePlan {
  return {
    status: withConditions(world, status, [finding]),
    finalizer: isHeld(world.restore) ? 'keep' : 'hold',
    actions: [],
    settled: standing.includes(finding.reason),
  };
}

export function going(world: RestoreWorld, finalizer: 'keep' | 'release', more: readonly Finding[] = []): RestorePlan {
  const { restore } = world;
  const findings = [notReady('Deleting', 'it is being deleted'), ...more];
  return {
    status: withConditions(world, restore.status ?? {}, findings),
    finalizer: finalizer === 'release' && !isHeld(restore) ? 'keep' : finalizer,
    actions: [],
    settled: false,
  };
}

export function whyNotReady(snapshot: Snapshot): string {
  const ready = findCondition(snapshot.status?.conditions, 'Ready');
  const why = ready === undefined ? 'nothing is known about it yet' : ready.message;
  return `Snapshot ${snapshot.metadata.name} is not ready: ${why}`;
}

function withConditions(
  { restore, now }: RestoreWorld,
  status: SnapshotRestoreStatus,
  findings: readonly Finding[],
): SnapshotRestoreStatus {
  const { generation } = restore.metadata;
  return {
    ...status,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: setConditions(restore.status?.conditions, findings, { now, generation }),
  };
}
