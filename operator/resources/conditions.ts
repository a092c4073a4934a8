import { z } from 'zod';

/**
 * One thing that is, or is not, the case about an object.
 * Source: https://github.com/kubernetes/community/blob/main/contributors/devel/sig-architecture/api-conventions.md
 */
export const conditionSchema = z.object({
  type: z.string().meta({ description: 'What this is about, e.g. Ready.' }),
  status: z.enum(['True', 'False', 'Unknown']).meta({ description: 'Whether it is so.' }),
  reason: z.string().meta({ description: 'Why, as one CamelCase word for programs.' }),
  message: z.string().meta({ description: 'Why, for people; if something has to be done, what.' }),
  lastTransitionTime: z.string().meta({ description: 'When the status last changed.', format: 'date-time' }),
  observedGeneration: z
    .int()
    .optional()
    .meta({ description: 'The generation of the object that this was said about.', format: 'int64' }),
});

export const conditionsField = z
  .array(conditionSchema)
  .optional()
  .meta({
    description: 'What is the case about this object.',
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['type'],
  });

export type Condition = z.output<typeof conditionSchema>;
export type ConditionStatus = Condition['status'];

/** A condition as a planner states it; when it began to be so is found by comparing with what was said before. */
export interface Finding {
  readonly type: ConditionType;
  readonly status: ConditionStatus;
  readonly reason: string;
  readonly message: string;
}

export type ConditionType =
  /** The object is what its spec asks for, and can be used. */
  | 'Ready'
  /** Of a PrimaryVolume: at least one synchronous mirror holds every acknowledged write. */
  | 'Protected'
  /** Of a StandbyMirror: it holds every acknowledged write. */
  | 'InSync'
  /** The buffer is not on the disk of the copy whose snapshots it keeps. False is a warning only. */
  | 'BufferOnOwnDisk'
  /** A failover would happen by itself. */
  | 'FailoverReady'
  /** Of a PrimaryVolume: its primary is set up as the spec and the mirrors ask for. */
  | 'Configured'
  /** There are a PersistentVolume and a PersistentVolumeClaim of it, bound to each other. */
  | 'Claimed'
  /** Of a PrimaryVolume, only while it is not so: its primary answers, knows the volume, and its disk works. */
  | 'PrimaryReachable'
  /** Of a PrimaryVolume, only while another primary is wanted: what that waits for. */
  | 'Promotion'
  /** Of a StandbyMirror, only while it is not so: the node of its standby works and its agent answers. */
  | 'StandbyReachable'
  /** Of a StandbyMirror, only while its standby is to be built on another node: what that waits for. */
  | 'Rebuild'
  /** Of a PrimaryVolume, only while it is so: a copy that was given up may still be on its node. */
  | 'StaleCopy'
  /** Of a PrimaryVolume, only while it is so: a copy may have acknowledged writes that the primary does not have. */
  | 'SplitBrain'
  /** Of a PrimaryVolume, only while it is so: what a former primary had written alone is kept as a snapshot. */
  | 'FormerContentKept'
  /** Of a PrimaryVolume that was made with the content of a snapshot: it has all of it itself. */
  | 'Filled'
  /** Of a SnapshotSchedule: the snapshot of its last time was taken. */
  | 'UpToDate'
  /** Of a SnapshotSchedule with a job: the last Job that ended has succeeded. */
  | 'JobSucceeded'
  /** Of a SnapshotSchedule: the buffer has a place for every snapshot that its rules keep, and one for the next. */
  | 'RetentionFits'
  /** Of a Snapshot with hooks: all of them ended well. */
  | 'HooksDone'
  /** Only while the object is being deleted: what it waits for. */
  | 'DeletionBlocked';

/**
 * The conditions after the findings: those that are not found any more are gone, and `lastTransitionTime` moves only
 * when a status changes.
 * @param now RFC 3339 with seconds, as Kubernetes writes times.
 */
export function setConditions(
  before: readonly Condition[] | undefined,
  findings: readonly Finding[],
  at: { readonly now: string; readonly generation: number | undefined },
): Condition[] {
  return findings.map((finding) => {
    const previous = findCondition(before, finding.type);
    const unchanged = previous !== undefined && previous.status === finding.status;
    return {
      type: finding.type,
      status: finding.status,
      reason: finding.reason,
      message: finding.message,
      lastTransitionTime: unchanged ? previous.lastTransitionTime : at.now,
      ...(at.generation === undefined ? {} : { observedGeneration: at.generation }),
    };
  });
}

export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: ConditionType,
): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export function isConditionTrue(conditions: readonly Condition[] | undefined, type: ConditionType): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** A wall-clock time as Kubernetes writes it: RFC 3339 in UTC, without fractions of a second. */
export function kubeTime(wallTimeMs: number): string {
  return new Date(wallTimeMs).toISOString().replace(/\.[0-9]{3}Z$/, 'Z');
}
