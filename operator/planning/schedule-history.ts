import { type Finding, findCondition, isConditionTrue, kubeTime } from '../resources/conditions.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { JobOutcome, ScheduleOutcome, SnapshotSchedule } from '../resources/snapshot-schedule.ts';
import { isDeleting } from './object-plan.ts';
import { scheduledAtMs } from './schedule-times.ts';

/** Why Ready is False for good. */
const lostReasons: readonly string[] = ['Invalidated', 'Lost', 'LostWithNode'];

/** Times that a status tells of. */
const historyLimit = 10;
/** A snapshot that takes longer than this is told of as one that is late. */
const lateAfterMs = 5 * 60_000;

/** Taken, and not known to have lost its content since. */
export function isTaken(snapshot: Snapshot): boolean {
  return snapshot.status?.takenAt !== undefined && !isLost(snapshot);
}

export function isReadable(snapshot: Snapshot): boolean {
  return isTaken(snapshot) && isConditionTrue(snapshot.status?.conditions, 'Ready');
}

export function isLost(snapshot: Snapshot): boolean {
  const ready = findCondition(snapshot.status?.conditions, 'Ready');
  return snapshot.status?.takenAt !== undefined && lostReasons.includes(ready?.reason ?? '');
}

/** It has been asked for, and may still come. */
export function isPending(snapshot: Snapshot): boolean {
  return snapshot.status?.takenAt === undefined && !isDeleting(snapshot);
}

/** A Job that is still to come, or has not ended. */
export function isOpen({ outcome }: JobOutcome): boolean {
  return outcome === 'Waiting' || outcome === 'Running';
}

export function hasOpenJob({ job }: ScheduleOutcome): boolean {
  return job !== undefined && isOpen(job);
}

/** The history of a schedule with what has become of its times since, and with new ones; the newest first. */
export function updatedHistory(
  before: SnapshotSchedule['status'],
  own: readonly Snapshot[],
  added: readonly ScheduleOutcome[],
): ScheduleOutcome[] {
  const entries = new Map((before?.history ?? []).map((entry) => [entry.scheduledAt, followed(entry, own)]));
  for (const snapshot of own) {
    const timeMs = scheduledAtMs(snapshot);
    if (timeMs === undefined) continue;
    const scheduledAt = kubeTime(timeMs);
    const known = entries.get(scheduledAt);
    if (known === undefined || known.snapshot === snapshot.metadata.name)
      entries.set(scheduledAt, known?.outcome === 'GivenUp' ? known : outcomeOf(snapshot, scheduledAt, known?.job));
  }
  for (const entry of added) entries.set(entry.scheduledAt, entry);
  return [...entries.values()].sort((a, b) => (a.scheduledAt < b.scheduledAt ? 1 : -1)).slice(0, historyLimit);
}

/** An entry whose Snapshot has gone. */
function followed(entry: ScheduleOutcome, own: readonly Snapshot[]): ScheduleOutcome {
  if (entry.outcome !== 'Taking' || own.some(({ metadata }) => metadata.name === entry.snapshot)) return entry;
  return { ...entry, outcome: 'GivenUp', message: 'the Snapshot was deleted before it was seen to be taken' };
}

function outcomeOf(snapshot: Snapshot, scheduledAt: string, job: JobOutcome | undefined): ScheduleOutcome {
  const { takenAt, conditions } = snapshot.status ?? {};
  const named = { scheduledAt, snapshot: snapshot.metadata.name, ...(job === undefined ? {} : { job }) };
  const message = findCondition(conditions, 'Ready')?.message;
  const why = message === undefined ? {} : { message };
  if (takenAt === undefined) return { ...named, outcome: 'Taking', ...why };
  return isLost(snapshot) ? { ...named, outcome: 'Lost', takenAt, ...why } : { ...named, outcome: 'Taken', takenAt };
}

/** Whether the last time of a schedule has its snapshot; one that is just being taken is left out of account for a while. */
export function upToDateFinding(history: readonly ScheduleOutcome[], offsetMs: number, nowMs: number): Finding {
  const isFresh = ({ outcome, scheduledAt }: ScheduleOutcome) =>
    outcome === 'Taking' && nowMs - Date.parse(scheduledAt) - offsetMs < lateAfterMs;
  const entry = history.find((candidate) => !isFresh(candidate));
  const not = (reason: string, message: string): Finding => ({ type: 'UpToDate', status: 'False', reason, message });
  if (entry === undefined) {
    const message = history.length === 0 ? 'its first time has not come yet' : 'its first snapshot is being taken';
    return { type: 'UpToDate', status: 'Unknown', reason: 'NotYet', message };
  }
  const { scheduledAt, snapshot, outcome, message = '' } = entry;
  switch (outcome) {
    case 'Taken':
      return { type: 'UpToDate', status: 'True', reason: 'Taken', message: `Snapshot ${snapshot} was taken` };
    case 'Taking':
      return not('Late', `Snapshot ${snapshot} has not been taken yet: ${message}`);
    case 'Lost':
      return not('Lost', `Snapshot ${snapshot} has lost its content: ${message}`);
    default:
      return not(outcome, `there is none of ${scheduledAt}: ${message}`);
  }
}
