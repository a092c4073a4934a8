import { type Finding, findCondition } from '../resources/conditions.ts';
import { finalizer, keepAnnotation } from '../resources/group.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { ScheduleOutcome, SnapshotSchedule, SnapshotScheduleSpec } from '../resources/snapshot-schedule.ts';
import { isDeleting } from './object-plan.ts';
import { planRetention, type RetentionPlan } from './plan-retention.ts';
import { hasOpenJob, isLost, isReadable, isTaken } from './schedule-history.ts';
import type { ScheduleSource } from './schedule-source.ts';

/** What the retention of a schedule depends on. */
export interface KeepingWorld {
  readonly schedule: SnapshotSchedule;
  /** The Snapshots that have its uid in their label. */
  readonly own: readonly Snapshot[];
  readonly source: ScheduleSource;
}

export interface Removal {
  readonly snapshot: Snapshot;
  readonly why: string;
}

/** @param history says which snapshots a Job has not ended with */
export function planKeeping(
  { own, source }: KeepingWorld,
  { retention: rules, timeZone }: SnapshotScheduleSpec,
  history: readonly ScheduleOutcome[],
): RetentionPlan {
  const inWork = new Set(history.filter(hasOpenJob).map(({ snapshot }) => snapshot));
  const kept = own.filter((snapshot) => isTaken(snapshot) && !isDeleting(snapshot));
  return planRetention({
    snapshots: kept.map((snapshot) => ({
      name: snapshot.metadata.name,
      takenAtMs: takenAtMs(snapshot),
      ready: isReadable(snapshot),
      held: holderOf(snapshot) ?? (inWork.has(snapshot.metadata.name) ? 'its Job has not ended' : undefined),
    })),
    rules,
    timeZone,
    places: source.places,
  });
}

/** Why a Snapshot must stay, as far as its object tells. */
export function holderOf({ metadata, status }: Snapshot): string | undefined {
  if (metadata.annotations?.[keepAnnotation] === 'true') return `it has the annotation ${keepAnnotation}`;
  if ((status?.readers ?? 0) > 0) return `it is being read by ${status?.readers}`;
  const foreign = metadata.finalizers?.find((name) => name !== finalizer);
  return foreign === undefined ? undefined : `it has the finalizer ${foreign}`;
}

/** What no rule asks for, what there is no place for, and what has no content any more since there is a newer one. */
export function removals(own: readonly Snapshot[], { prune, crowdedOut }: RetentionPlan): Removal[] {
  const newestMs = Math.max(...own.filter(isReadable).map(takenAtMs));
  return own.flatMap((snapshot) => {
    const { name } = snapshot.metadata;
    if (crowdedOut.includes(name)) return [{ snapshot, why: 'the buffer has no place for it beside newer ones' }];
    if (prune.includes(name)) return [{ snapshot, why: 'no rule of the retention asks for it any more' }];
    const isWaste = isLost(snapshot) && !isDeleting(snapshot) && holderOf(snapshot) === undefined;
    return isWaste && takenAtMs(snapshot) < newestMs ? [{ snapshot, why: 'its content is lost' }] : [];
  });
}

export function takenAtMs(snapshot: Snapshot): number {
  return Date.parse(snapshot.status?.takenAt ?? '');
}

/**
 * Whether there is a place for everything that the rules keep. Whether they ask for too much shows only when something is
 * crowded out; from then on it is so until the rules change or there are places left over.
 */
export function fitFinding(world: KeepingWorld, { retention }: SnapshotScheduleSpec, plan: RetentionPlan): Finding[] {
  const { places } = world.source;
  const counts = Object.values(retention).filter((count) => count !== undefined);
  if (places === undefined || counts.length === 0) return [];
  const { status, metadata } = world.schedule;
  const before = findCondition(status?.conditions, 'RetentionFits');
  const wasFull = before?.status === 'False' && before.observedGeneration === metadata.generation;
  const tooMany = counts.some((count) => count > places) || plan.crowdedOut.length > 0;
  if (!tooMany && !(wasFull && plan.kept.size >= places)) {
    return [{ type: 'RetentionFits', status: 'True', reason: 'Fits', message: `there are ${places} places` }];
  }
  const message = `its rules keep more than the ${places} snapshots that there is a place for, beside others and the next one: the oldest go before their time. Raise buffer.maxSnapshots, or keep fewer`;
  return [{ type: 'RetentionFits', status: 'False', reason: 'TooManyForBuffer', message }];
}
