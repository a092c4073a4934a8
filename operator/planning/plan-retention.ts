import { remembered } from '../../common/remembered.ts';
import type { RetentionRules } from '../resources/snapshot-schedule.ts';

/** A snapshot that was taken by a schedule, as far as its retention depends on it. */
export interface KeptSnapshot {
  readonly name: string;
  /** The moment of its barrier, in milliseconds since 1970. */
  readonly takenAtMs: number;
  /** Known to be readable now; one of which nothing can be said counts as taken, and stays. */
  readonly ready: boolean;
  /** Why it must stay whatever the rules say: who reads it, or who asked for it to be kept. */
  readonly held: string | undefined;
}

export interface RetentionWorld {
  readonly snapshots: readonly KeptSnapshot[];
  readonly rules: RetentionRules;
  readonly timeZone: string;
  /** How many may be kept, the next one not counted; undefined where there is no limit. */
  readonly places: number | undefined;
}

export interface RetentionPlan {
  readonly prune: readonly string[];
  /** Those that stay and that a rule asks for, with the names of these rules. */
  readonly kept: ReadonlyMap<string, readonly string[]>;
  /** Those that a rule asks for and that there is no place for. */
  readonly crowdedOut: readonly string[];
}

/**
 * What of the snapshots of a schedule goes. What always holds:
 *
 * - The newest one that can be read stays, and nothing goes that is not older than it: there is always a replacement first.
 * - What is held, and what cannot be seen now, stays.
 * - Of the others, those go that no rule asks for; then, while there are more than places, the oldest.
 * - After it was done, there is nothing to do.
 */
export function planRetention({ snapshots, rules, timeZone, places }: RetentionWorld): RetentionPlan {
  const newestFirst = [...snapshots].sort((a, b) => b.takenAtMs - a.takenAtMs || (a.name < b.name ? 1 : -1));
  const kept = keptByRules(newestFirst, rules, timeZone);
  const replacement = newestFirst.findIndex(({ ready }) => ready);
  const older = replacement < 0 ? [] : newestFirst.slice(replacement + 1);
  const removable = older.filter(({ ready, held }) => ready && held === undefined);
  const unwanted = removable.filter(({ name }) => !kept.has(name));
  const excess = Math.max(0, snapshots.length - unwanted.length - (places ?? Number.POSITIVE_INFINITY));
  const wanted = removable.filter(({ name }) => kept.has(name));
  const crowdedOut = wanted.slice(wanted.length - Math.min(excess, wanted.length));
  for (const { name } of crowdedOut) kept.delete(name);
  return {
    prune: [...unwanted, ...crowdedOut].map(({ name }) => name),
    kept,
    crowdedOut: crowdedOut.map(({ name }) => name),
  };
}

/** Which rules ask for which snapshot; without rules, all are asked for. */
function keptByRules(
  newestFirst: readonly KeptSnapshot[],
  rules: RetentionRules,
  timeZone: string,
): Map<string, string[]> {
  const kept = new Map<string, string[]>();
  const keep = ({ name }: KeptSnapshot, rule: string) => kept.set(name, [...(kept.get(name) ?? []), rule]);
  const { keepLast, hourly, daily, weekly } = rules;
  if ([keepLast, hourly, daily, weekly].every((count) => count === undefined)) {
    for (const snapshot of newestFirst) keep(snapshot, 'all');
    return kept;
  }
  for (const snapshot of newestFirst.slice(0, keepLast ?? 0)) keep(snapshot, 'keepLast');
  const periodOf = calendar(timeZone);
  for (const [rule, count] of Object.entries({ hourly, daily, weekly })) {
    for (const snapshot of newestOfEach(newestFirst, (takenAtMs) => periodOf(takenAtMs)[rule as Period], count ?? 0))
      keep(snapshot, rule);
  }
  return kept;
}

/** The newest snapshot of each of the last periods in which there is one. */
function newestOfEach(
  newestFirst: readonly KeptSnapshot[],
  period: (takenAtMs: number) => string,
  count: number,
): KeptSnapshot[] {
  if (count === 0) return [];
  const newest = new Map<string, KeptSnapshot>();
  for (const snapshot of newestFirst) {
    const key = period(snapshot.takenAtMs);
    if (!newest.has(key)) newest.set(key, snapshot);
    if (newest.size === count) break;
  }
  return [...newest.values()];
}

type Period = 'hourly' | 'daily' | 'weekly';

const dayMs = 86_400_000;

/** The hour, the day and the week in which a moment is, in a time zone. An hour that comes twice is two hours. */
const calendar = remembered((timeZone: string): ((ms: number) => Readonly<Record<Period, string>>) => {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'iso8601',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    timeZoneName: 'longOffset',
  });
  return (ms) => {
    const parts = new Map(format.formatToParts(ms).map(({ type, value }) => [type as string, value]));
    const [year, month, day] = ['year', 'month', 'day'].map((part) => Number(parts.get(part)));
    const dayNumber = Date.UTC(year ?? 0, (month ?? 1) - 1, day ?? 1) / dayMs;
    return {
      hourly: `${dayNumber} ${parts.get('hour')} ${parts.get('timeZoneName')}`,
      daily: String(dayNumber),
      // 1970 began on a Thursday.
      weekly: String(Math.floor((dayNumber + 3) / 7)),
    };
  };
});
