import { type Finding, findCondition, kubeTime, setConditions } from '../resources/conditions.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { jobAnnotation, scheduledAtAnnotation, scheduleLabel, scheduleUidLabel } from '../resources/group.ts';
import type { NewObject } from '../resources/kube-object.ts';
import { apiVersionOf } from '../resources/resource.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type ScheduleOutcome,
  type SnapshotSchedule,
  type SnapshotScheduleSpec,
  type SnapshotScheduleStatus,
  snapshotSchedules,
} from '../resources/snapshot-schedule.ts';
import { describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { notReady } from './findings.ts';
import { givenUpFinding } from './given-up.ts';
import { isDeleting, type ObjectPlan } from './object-plan.ts';
import { type JobsPlan, type JobsWorld, planJobs } from './plan-schedule-jobs.ts';
import { hasOpenJob, isPending, isReadable, updatedHistory, upToDateFinding } from './schedule-history.ts';
import { fitFinding, type KeepingWorld, planKeeping, type Removal, removals, takenAtMs } from './schedule-keeping.ts';
import {
  mostCounted,
  patternOf,
  type ScheduleTimes,
  scheduledAtMs,
  scheduledJobName,
  scheduledName,
  scheduleLabelValue,
  scheduleTimes,
} from './schedule-times.ts';

/** Everything that the plan for a schedule depends on. */
export interface ScheduleWorld extends JobsWorld, KeepingWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly nowMs: number;
  readonly schedule: SnapshotSchedule;
  readonly own: readonly Snapshot[];
  /** The name of a Snapshot that was to be made, and that another object has. */
  readonly nameTaken?: string | undefined;
}

export interface SchedulePlan extends ObjectPlan<SnapshotScheduleStatus> {
  /** The Snapshot to make; the status says that it was made. */
  readonly make?: NewObject<Snapshot> | undefined;
  /** To be deleted although they were not taken. */
  readonly giveUp: readonly Removal[];
  /** To be deleted if nobody reads them at that moment. */
  readonly prune: readonly Removal[];
  readonly jobs: Pick<JobsPlan, 'start' | 'end'>;
  /** Something is on its way that no change of an object tells of. */
  readonly soon: boolean;
  /** When to look again at the latest, in milliseconds since 1970. */
  readonly nextMs?: number | undefined;
}

/**
 * Plans one schedule. What always holds:
 *
 * - For a time there is one Snapshot at most: its name follows from the time, and a time that has one, or that the status
 *   has dealt with, is not considered again.
 * - Of several times that were missed, the newest is caught up, or none.
 * - While one is being taken, no other is asked for beside it.
 * - What goes was made by this schedule, and planRetention says what goes.
 */
export function planSchedule(world: ScheduleWorld): SchedulePlan {
  const { schedule, own, nowMs } = world;
  const stays = { finalizer: 'keep', giveUp: [], prune: [], jobs: { end: [] }, soon: false } as const;
  const before = schedule.status ?? {};
  if (isDeleting(schedule)) return { ...stays, status: before };
  const spec = validateSpec(snapshotSchedules, schedule.spec);
  const because = (reason: string, message: string) => ({
    ...stays,
    status: withConditions(world, before, [notReady(reason, message)]),
  });
  if (!spec.ok) return because('Invalid', describeViolations(spec.violations));
  const times = scheduleTimes(schedule, spec.value, own, nowMs);
  if (times === undefined) return because('Invalid', `spec.cron: "${spec.value.cron}" never comes`);
  return planValid(world, spec.value, times);
}

function planValid(world: ScheduleWorld, spec: SnapshotScheduleSpec, times: ScheduleTimes): SchedulePlan {
  const { schedule, own, nowMs } = world;
  const late = lateOnes(world, spec, times);
  const step = nextStep(world, spec, times, late);
  const jobs = planJobs(world, spec, updatedHistory(schedule.status, own, step.outcomes));
  const history = [...jobs.history];
  const retention = planKeeping(world, spec, history);
  const handledUntilMs = times.dueMs ?? times.handledUntilMs;
  const nextFireMs = times.nextMs === undefined || spec.suspend ? undefined : times.nextMs + times.offsetMs;
  const taking =
    step.make?.metadata.name ?? own.find((snapshot) => isPending(snapshot) && !gone(step, snapshot))?.metadata.name;
  const status: SnapshotScheduleStatus = {
    ...(nextFireMs === undefined ? {} : { nextScheduleTime: kubeTime(nextFireMs) }),
    ...lastTimes(world, step.make === undefined ? undefined : times.dueMs),
    handledUntil: kubeTime(handledUntilMs),
    handledPattern: patternOf(spec),
    ...(taking === undefined ? {} : { taking }),
    kept: own.filter((snapshot) => isReadable(snapshot) && !isDeleting(snapshot)).length,
    ...(world.source.places === undefined ? {} : { places: world.source.places }),
    history,
  };
  const findings = [
    readyFinding(world, spec, times),
    upToDateFinding(history, times.offsetMs, nowMs),
    ...fitFinding(world, spec, retention),
    ...jobs.findings,
  ];
  return {
    finalizer: 'keep',
    status: withConditions(world, status, findings),
    make: step.make,
    giveUp: step.giveUp,
    prune: spec.suspend ? [] : [...jobs.release, ...removals(own, retention)],
    jobs,
    soon: jobs.release.length > 0 || history.some(hasOpenJob),
    nextMs: earliest(nextFireMs, ...own.filter(isPending).map((snapshot) => deadlineMs(snapshot, spec, times))),
  };
}

interface Step {
  readonly make?: NewObject<Snapshot>;
  readonly giveUp: readonly Removal[];
  readonly outcomes: readonly ScheduleOutcome[];
}

/** What is to be done about the time that is due, and about what was not taken in time. */
function nextStep(
  world: ScheduleWorld,
  spec: SnapshotScheduleSpec,
  times: ScheduleTimes,
  late: readonly Removal[],
): Step {
  const { dueMs, missed, offsetMs } = times;
  const outcomes = late.flatMap((removal) => givenUp(removal));
  if (dueMs === undefined || spec.suspend) return { giveUp: late, outcomes };
  if (missed !== undefined) outcomes.push(missedOutcome(missed));
  const skip = (message: string): Step => ({
    giveUp: late,
    outcomes: [...outcomes, { scheduledAt: kubeTime(dueMs), outcome: 'Skipped', message }],
  });
  const { nowMs, source, own, nameTaken } = world;
  const { startingDeadline } = spec;
  if (startingDeadline !== undefined && nowMs - dueMs - offsetMs > parseDurationMs(startingDeadline))
    return skip(`it came to that more than ${startingDeadline} too late`);
  if (source.problem !== undefined) return skip(source.problem.message);
  const make = newSnapshot(world, spec, dueMs);
  if (make.metadata.name === nameTaken) return skip(`there is a Snapshot ${nameTaken} that this schedule has not made`);
  const first = own.find((snapshot) => isPending(snapshot) && !late.some((removal) => removal.snapshot === snapshot));
  if (first !== undefined && spec.concurrencyPolicy === 'Forbid')
    return skip(`Snapshot ${first.metadata.name} has not been taken yet`);
  const made: ScheduleOutcome = { scheduledAt: kubeTime(dueMs), snapshot: make.metadata.name, outcome: 'Taking' };
  return { make, giveUp: late, outcomes: [...outcomes, made] };
}

function missedOutcome({ count, newestMs }: NonNullable<ScheduleTimes['missed']>): ScheduleOutcome {
  const times = count >= mostCounted ? `at least ${count} times` : count === 1 ? 'one time' : `${count} times`;
  const message = `${times} up to this one went by while no operator was there`;
  return { scheduledAt: kubeTime(newestMs), outcome: 'Skipped', message };
}

function givenUp({ snapshot, why }: Removal): ScheduleOutcome[] {
  const timeMs = scheduledAtMs(snapshot);
  if (timeMs === undefined) return [];
  return [{ scheduledAt: kubeTime(timeMs), snapshot: snapshot.metadata.name, outcome: 'GivenUp', message: why }];
}

/** Those that were given up, or not taken before their deadline, or before the one that replaces them was asked for. */
function lateOnes({ own, nowMs }: ScheduleWorld, spec: SnapshotScheduleSpec, times: ScheduleTimes): Removal[] {
  const newestMs = Math.max(...own.flatMap((snapshot) => scheduledAtMs(snapshot) ?? []));
  return own.filter(isPending).flatMap((snapshot) => {
    const givenUp = givenUpFinding(snapshot);
    if (givenUp !== undefined) return [{ snapshot, why: givenUp.message }];
    const timeMs = scheduledAtMs(snapshot);
    if (spec.concurrencyPolicy === 'Replace' && timeMs !== undefined && timeMs < newestMs)
      return [{ snapshot, why: 'the next one is taken instead' }];
    const untilMs = deadlineMs(snapshot, spec, times);
    if (untilMs === undefined || nowMs <= untilMs) return [];
    const reason = findCondition(snapshot.status?.conditions, 'Ready')?.message ?? 'nothing is known about it';
    return [{ snapshot, why: `it was not taken within ${spec.startingDeadline}: ${reason}` }];
  });
}

function deadlineMs(snapshot: Snapshot, { startingDeadline }: SnapshotScheduleSpec, { offsetMs }: ScheduleTimes) {
  const timeMs = scheduledAtMs(snapshot);
  if (startingDeadline === undefined || timeMs === undefined) return undefined;
  return timeMs + offsetMs + parseDurationMs(startingDeadline);
}

function newSnapshot({ schedule }: ScheduleWorld, spec: SnapshotScheduleSpec, timeMs: number): NewObject<Snapshot> {
  const { name, namespace = '', uid } = schedule.metadata;
  const { labels, source, consistency, claim } = spec.template;
  return {
    apiVersion: apiVersionOf(snapshots),
    kind: snapshots.kind,
    metadata: {
      name: scheduledName(name, timeMs),
      namespace,
      labels: { ...labels, [scheduleLabel]: scheduleLabelValue(name), [scheduleUidLabel]: uid },
      annotations: {
        [scheduledAtAnnotation]: kubeTime(timeMs),
        ...(spec.job === undefined ? {} : { [jobAnnotation]: scheduledJobName(name, timeMs) }),
      },
    },
    // A Job reads it through its claim.
    spec: { source, consistency, claim: claim || spec.job !== undefined },
  };
}

function gone(step: Step, snapshot: Snapshot): boolean {
  return step.giveUp.some((removal) => removal.snapshot === snapshot);
}

function lastTimes({ schedule, own }: ScheduleWorld, madeMs: number | undefined) {
  const { lastScheduleTime: before, lastSuccessfulTime } = schedule.status ?? {};
  const newest = own.filter(isReadable).sort((a, b) => takenAtMs(b) - takenAtMs(a))[0]?.status?.takenAt;
  const lastScheduleTime = madeMs === undefined ? before : kubeTime(madeMs);
  const successful = newest ?? lastSuccessfulTime;
  return {
    ...(lastScheduleTime === undefined ? {} : { lastScheduleTime }),
    ...(successful === undefined ? {} : { lastSuccessfulTime: successful }),
  };
}

function readyFinding({ source }: ScheduleWorld, spec: SnapshotScheduleSpec, times: ScheduleTimes): Finding {
  if (source.problem !== undefined) return notReady(source.problem.reason, source.problem.message);
  const ready = { type: 'Ready', status: 'True' } as const;
  if (spec.suspend) return { ...ready, reason: 'Suspended', message: 'it is suspended: spec.suspend is true' };
  const delay = times.offsetMs === 0 ? '' : `, each ${times.offsetMs / 1000} s later`;
  return { ...ready, reason: 'Scheduled', message: `snapshots are taken at ${patternOf(spec)}${delay}` };
}

function withConditions(
  { schedule, now }: ScheduleWorld,
  status: SnapshotScheduleStatus,
  findings: readonly Finding[],
): SnapshotScheduleStatus {
  const { generation } = schedule.metadata;
  return {
    ...status,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: setConditions(schedule.status?.conditions, findings, { now, generation }),
  };
}

function earliest(...times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
