import { createHash } from 'node:crypto';
import { type CronTimes, parseCron } from '../resources/cron.ts';
import { parseDurationMs } from '../resources/duration.ts';
import { scheduledAtAnnotation } from '../resources/group.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { SnapshotSchedule, SnapshotScheduleSpec } from '../resources/snapshot-schedule.ts';

/** How a schedule stands to its times. All are times of the pattern, in milliseconds since 1970; jitter comes on top. */
export interface ScheduleTimes {
  /** Every time up to this one has been dealt with. */
  readonly handledUntilMs: number;
  /** The newest time that has come and has not been dealt with. */
  readonly dueMs: number | undefined;
  /** Times before that one which have not been dealt with either, `mostCounted` at most; the newest of them. */
  readonly missed: { readonly count: number; readonly newestMs: number } | undefined;
  /** The first time that is still to come. */
  readonly nextMs: number | undefined;
  /** How much later than its times this schedule acts. */
  readonly offsetMs: number;
}

export const mostCounted = 100;

/** What the times depend on: with another pattern, nothing is caught up. */
export function patternOf({ cron, timeZone }: SnapshotScheduleSpec): string {
  return `${cron} ${timeZone}`;
}

/**
 * @param own the Snapshots that the schedule made; what was made for a time has been dealt with, whatever the status says
 * @returns undefined if the pattern never comes
 */
export function scheduleTimes(
  schedule: SnapshotSchedule,
  spec: SnapshotScheduleSpec,
  own: readonly Snapshot[],
  nowMs: number,
): ScheduleTimes | undefined {
  const times = parseCron(spec.cron, spec.timeZone);
  if (times?.next(nowMs) === undefined) return undefined;
  const offsetMs = jitterOffsetMs(schedule.metadata.uid, parseDurationMs(spec.jitter));
  const handledUntilMs = handledUntil(schedule, spec, own, nowMs);
  // The pattern as it is delayed by the offset: what it says of now is what it said of that moment.
  const shownMs = nowMs - offsetMs;
  const last = times.last(shownMs);
  const dueMs = last !== undefined && last > handledUntilMs ? last : undefined;
  return {
    handledUntilMs,
    dueMs,
    missed: dueMs === undefined ? undefined : missedBefore(times, handledUntilMs, dueMs),
    nextMs: times.next(Math.max(handledUntilMs, shownMs)),
    offsetMs,
  };
}

function handledUntil(
  schedule: SnapshotSchedule,
  spec: SnapshotScheduleSpec,
  own: readonly Snapshot[],
  nowMs: number,
): number {
  const { handledUntil, handledPattern } = schedule.status ?? {};
  if (handledPattern !== undefined && handledPattern !== patternOf(spec)) return nowMs;
  const { creationTimestamp } = schedule.metadata;
  const begin = handledUntil ?? creationTimestamp;
  const made = own.flatMap((snapshot) => scheduledAtMs(snapshot) ?? []);
  return Math.max(begin === undefined ? nowMs : Date.parse(begin), ...made);
}

function missedBefore(times: CronTimes, handledUntilMs: number, dueMs: number): ScheduleTimes['missed'] {
  const newestMs = times.last(dueMs - 1);
  if (newestMs === undefined || newestMs <= handledUntilMs) return undefined;
  let count = 0;
  let timeMs = times.next(handledUntilMs);
  while (timeMs !== undefined && timeMs < dueMs && count < mostCounted) {
    count += 1;
    timeMs = times.next(timeMs);
  }
  return { count, newestMs };
}

/** Always the same for an object, and spread over the whole jitter for many of them; whole seconds. */
export function jitterOffsetMs(uid: string, jitterMs: number): number {
  const share = createHash('sha256').update(uid).digest().readUIntBE(0, 6) / 2 ** 48;
  return Math.floor((share * jitterMs) / 1000) * 1000;
}

/** The time of its schedule that a Snapshot was made for; undefined if someone has changed that. */
export function scheduledAtMs({ metadata }: Snapshot): number | undefined {
  const ms = Date.parse(metadata.annotations?.[scheduledAtAnnotation] ?? '');
  return Number.isNaN(ms) ? undefined : ms;
}

const longestName = 253;
const longestLabel = 63;

/**
 * The name of the Snapshot for a time, always the same: whoever makes it, and however often it is tried, there is one. The
 * time is in UTC, which never repeats.
 */
export function scheduledName(schedule: string, timeMs: number, longest = longestName): string {
  const [date = '', time = ''] = new Date(timeMs).toISOString().split('T');
  const suffix = `-${date.replaceAll('-', '')}-${time.slice(0, 5).replace(':', '')}`;
  return shortened(schedule, longest - suffix.length) + suffix;
}

/** The name of the Job for that Snapshot. Its pods have it in a label. */
export function scheduledJobName(schedule: string, timeMs: number): string {
  return scheduledName(schedule, timeMs, longestLabel);
}

/** The value of the label that says which schedule made a Snapshot. */
export function scheduleLabelValue(schedule: string): string {
  return shortened(schedule, longestLabel);
}

/** The name, or its beginning with a digest of all of it. */
function shortened(name: string, longest: number): string {
  if (name.length <= longest) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 10);
  return `${name.slice(0, longest - digest.length - 1)}-${digest}`;
}
