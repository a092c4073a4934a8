import { type Finding, findCondition, kubeTime } from '../resources/conditions.ts';
import { jobAnnotation, scheduledAtAnnotation, scheduleLabel, scheduleUidLabel } from '../resources/group.ts';
import { type Job, type JobTemplate, jobs as jobKind, snapshotVolumeName } from '../resources/job.ts';
import type { NewObject } from '../resources/kube-object.ts';
import { apiVersionOf } from '../resources/resource.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type {
  JobOutcome,
  ScheduleOutcome,
  SnapshotSchedule,
  SnapshotScheduleSpec,
} from '../resources/snapshot-schedule.ts';
import { isDeleting } from './object-plan.ts';
import { isLost, isOpen, isReadable } from './schedule-history.ts';
import { holderOf, type Removal } from './schedule-keeping.ts';
import { scheduledAtMs, scheduleLabelValue } from './schedule-times.ts';

/** Everything that the plan for the Jobs of a schedule depends on. */
export interface JobsWorld {
  readonly schedule: SnapshotSchedule;
  readonly own: readonly Snapshot[];
  /** The Jobs of this schedule, as they are now; or why they cannot be seen. */
  readonly jobs: SeenJobs;
  /** The Job that was to be made, and that the API server refused. */
  readonly jobRefused?: { readonly name: string; readonly message: string } | undefined;
}

export type SeenJobs =
  | { readonly kind: 'seen'; readonly jobs: readonly Job[] }
  | { readonly kind: 'unseen'; readonly message: string };

export interface JobsPlan {
  /** With what became of the Jobs. */
  readonly history: readonly ScheduleOutcome[];
  /** The Job to make; the history says that it was made. */
  readonly start?: NewObject<Job> | undefined;
  /** Jobs to be deleted, with their pods. */
  readonly end: readonly JobRemoval[];
  /** Snapshots that are not needed any more, to be deleted if nobody reads them at that moment. */
  readonly release: readonly Removal[];
  readonly findings: readonly Finding[];
}

export interface JobRemoval {
  readonly job: Job;
  readonly why: string;
  /** It had ended before. */
  readonly isOver: boolean;
}

/**
 * Plans the Jobs of a schedule. What always holds:
 *
 * - A Snapshot that was made while the schedule had a Job names its own in an annotation; no other gets one.
 * - For a Snapshot there is one Job at most: its name is known beforehand, and once the history says how it ended, or that
 *   it was left out, that stays. What the history does not tell of any more gets none.
 * - While one Job of the schedule has not ended, none is made: the snapshots that become ready meanwhile get none at all.
 * - A Job whose snapshot has lost its content has failed, whatever the Job says (rule 20); and no Job outlives its snapshot.
 * - A Snapshot stays until its Job has ended. Only after success is one released before its time.
 */
export function planJobs(world: JobsWorld, spec: SnapshotScheduleSpec, before: readonly ScheduleOutcome[]): JobsPlan {
  const { jobs } = world;
  if (jobs.kind === 'unseen') {
    const unseen: Finding = { type: 'JobSucceeded', status: 'Unknown', reason: 'JobsNotSeen', message: jobs.message };
    return { history: before, end: [], release: [], findings: [unseen] };
  }
  const followed = before.map((entry) => withJob(entry, followedJob(world, jobs.jobs, entry)));
  const { history, start } = startNext(world, jobs.jobs, spec, followed);
  return {
    history,
    start,
    end: jobs.jobs.flatMap((job) => unfitJob(world, job)),
    release: spec.job?.onSuccess === 'Release' && !spec.suspend ? released(world, history) : [],
    findings: jobFinding(history),
  };
}

function withJob(entry: ScheduleOutcome, job: JobOutcome | undefined): ScheduleOutcome {
  const { job: _, ...rest } = entry;
  return job === undefined ? rest : { ...rest, job };
}

/** What has become of the Job of a time. */
function followedJob(
  { own }: JobsWorld,
  jobs: readonly Job[],
  { snapshot: snapshotName, job: before }: ScheduleOutcome,
): JobOutcome | undefined {
  if (before !== undefined && !isOpen(before)) return before;
  const snapshot = own.find(({ metadata }) => metadata.name === snapshotName);
  const name = before?.name ?? snapshot?.metadata.annotations?.[jobAnnotation];
  if (name === undefined) return undefined;
  const job = jobs.find(({ metadata }) => metadata.name === name);
  const unfit = unfitReason(snapshot, snapshotName);
  if (job !== undefined) {
    const { outcome, message } = stateOf(job);
    if (unfit !== undefined && (outcome === 'Running' || isLostNow(snapshot)))
      return { name, outcome: 'Failed', message: unfit };
    return { name, outcome, ...(message === undefined ? {} : { message }) };
  }
  if (before?.outcome === 'Running') {
    return { name, outcome: 'Failed', message: unfit ?? 'the Job was deleted before it was seen to end' };
  }
  return unfit === undefined ? { name, outcome: 'Waiting' } : { name, outcome: 'Skipped', message: unfit };
}

/** Why nothing can be made of a snapshot any more; undefined for one that is there, or still to be taken. */
function unfitReason(snapshot: Snapshot | undefined, name: string | undefined): string | undefined {
  if (snapshot === undefined || isDeleting(snapshot)) return `Snapshot ${name} was deleted`;
  const message = findCondition(snapshot.status?.conditions, 'Ready')?.message;
  return isLost(snapshot) ? `Snapshot ${name} has lost its content: ${message}` : undefined;
}

function isLostNow(snapshot: Snapshot | undefined): boolean {
  return snapshot !== undefined && isLost(snapshot);
}

function stateOf(job: Job): { readonly outcome: 'Running' | 'Succeeded' | 'Failed'; readonly message?: string } {
  const { conditions = [] } = job.status ?? {};
  const isTrue = (type: string) =>
    conditions.find((condition) => condition.type === type && condition.status === 'True');
  if (isTrue('Complete') !== undefined) return { outcome: 'Succeeded' };
  const failed = isTrue('Failed');
  return failed === undefined ? { outcome: 'Running' } : { outcome: 'Failed', message: failed.message ?? 'it failed' };
}

/** Begins with the newest that can be read, unless one is at work; the others that could begin are left out. */
function startNext(
  world: JobsWorld,
  jobs: readonly Job[],
  spec: SnapshotScheduleSpec,
  history: readonly ScheduleOutcome[],
): Pick<JobsPlan, 'history' | 'start'> {
  if (spec.suspend) return { history };
  let running = jobs.find((job) => stateOf(job).outcome === 'Running')?.metadata.name;
  let start: NewObject<Job> | undefined;
  const decided = history.map((entry): ScheduleOutcome => {
    const { job } = entry;
    const snapshot = world.own.find(({ metadata }) => metadata.name === entry.snapshot);
    if (job?.outcome !== 'Waiting' || snapshot === undefined) return entry;
    const not = (outcome: 'Failed' | 'Skipped', message: string) => ({ ...entry, job: { ...job, outcome, message } });
    if (spec.job === undefined) return not('Skipped', 'the schedule has no job any more');
    if (!isReadable(snapshot) || snapshot.status?.claimName === undefined) return entry;
    if (running !== undefined) return not('Skipped', `Job ${running} had not ended`);
    if (job.name === world.jobRefused?.name) return not('Failed', world.jobRefused.message);
    start = newJob(world.schedule, spec.job.template, snapshot, job.name);
    running = job.name;
    return { ...entry, job: { ...job, outcome: 'Running' } };
  });
  return { history: decided, start };
}

/** The Job of a snapshot: owned by it, so that they go together, with the claim as one more volume of its pods. */
function newJob(
  schedule: SnapshotSchedule,
  { metadata, spec }: JobTemplate,
  snapshot: Snapshot,
  name: string,
): NewObject<Job> {
  const { namespace = '', uid, name: scheduleName } = schedule.metadata;
  const { apiVersion, kind } = snapshot;
  const timeMs = scheduledAtMs(snapshot);
  const claimName = snapshot.status?.claimName ?? '';
  const pod = spec.template.spec;
  const volume = { name: snapshotVolumeName, persistentVolumeClaim: { claimName, readOnly: true } };
  return {
    apiVersion: apiVersionOf(jobKind),
    kind: jobKind.kind,
    metadata: {
      name,
      namespace,
      labels: { ...metadata?.labels, [scheduleLabel]: scheduleLabelValue(scheduleName), [scheduleUidLabel]: uid },
      annotations: {
        ...metadata?.annotations,
        ...(timeMs === undefined ? {} : { [scheduledAtAnnotation]: kubeTime(timeMs) }),
      },
      ownerReferences: [
        {
          apiVersion,
          kind,
          name: snapshot.metadata.name,
          uid: snapshot.metadata.uid,
          controller: true,
          blockOwnerDeletion: false,
        },
      ],
    },
    spec: { ...spec, template: { ...spec.template, spec: { ...pod, volumes: [...(pod.volumes ?? []), volume] } } },
  };
}

/**
 * A Job at work whose snapshot is gone, or going, or worth nothing: its pods would only hang or read errors. And one that has
 * ended, when its snapshot is going: Kubernetes keeps a claim for as long as there is a pod that has used it, and the claim
 * keeps the snapshot.
 */
function unfitJob({ own }: JobsWorld, job: Job): JobRemoval[] {
  if (isDeleting(job)) return [];
  const owner = job.metadata.ownerReferences?.find(({ controller }) => controller);
  const snapshot = own.find(({ metadata }) => metadata.uid === owner?.uid);
  const isOver = stateOf(job).outcome !== 'Running';
  if (isOver && (snapshot === undefined || !isDeleting(snapshot))) return [];
  const why = unfitReason(snapshot, owner?.name);
  return why === undefined ? [] : [{ job, why, isOver }];
}

function released({ own }: JobsWorld, history: readonly ScheduleOutcome[]): Removal[] {
  return history.flatMap(({ snapshot: name, job }) => {
    const snapshot = own.find(({ metadata }) => metadata.name === name);
    if (job?.outcome !== 'Succeeded' || snapshot === undefined || isDeleting(snapshot)) return [];
    return holderOf(snapshot) === undefined ? [{ snapshot, why: `its Job ${job.name} has succeeded` }] : [];
  });
}

/** How the newest Job ended that did, or that was left out. */
function jobFinding(history: readonly ScheduleOutcome[]): Finding[] {
  const known = history.flatMap(({ job, snapshot }) => (job === undefined ? [] : [{ job, snapshot }]));
  const [ended] = known.filter(({ job }) => !isOpen(job));
  const finding = (status: Finding['status'], reason: string, message: string): Finding[] => [
    { type: 'JobSucceeded', status, reason, message },
  ];
  if (ended === undefined) {
    return known.length === 0 ? [] : finding('Unknown', 'NotYet', 'its first Job has not ended yet');
  }
  const { name, outcome, message } = ended.job;
  if (outcome === 'Succeeded') return finding('True', outcome, `Job ${name} has read Snapshot ${ended.snapshot}`);
  return finding('False', outcome, `Job ${name} of Snapshot ${ended.snapshot}: ${message}`);
}
