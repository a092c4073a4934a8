import { Cron } from 'croner';
import { remembered } from '../../common/remembered.ts';

/** Five fields, without what croner adds to them that depends on the moment of reading ("?"). */
const fivePart = /^[0-9A-Za-z*,/#-]+( +[0-9A-Za-z*,/#-]+){4}$/;
const nicknames: readonly string[] = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@hourly'];

/** The times of a cron pattern in a time zone, in milliseconds since 1970. */
export interface CronTimes {
  /** The first time after a moment; undefined if there is none. */
  next(afterMs: number): number | undefined;
  /** The last time at or before a moment; undefined if there is none. */
  last(untilMs: number): number | undefined;
}

/**
 * Where clocks are put forward, a pattern of one time of day comes at the first moment after the gap; where they are put
 * back, once. Other patterns leave the gap out, and come twice.
 * @returns undefined if it is no pattern of five fields, or the time zone is unknown
 */
export const parseCron = remembered((pattern: string, timeZone: string): CronTimes | undefined => {
  if (!isTimeZone(timeZone) || (!fivePart.test(pattern) && !nicknames.includes(pattern))) return undefined;
  const cron = readPattern(pattern, timeZone);
  if (cron === undefined) return undefined;
  return {
    next: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime(),
    // A run at the very reference is not before it; one in the same second is.
    last: (untilMs) => cron.previousRuns(1, new Date(untilMs + 1))[0]?.getTime(),
  };
});

function readPattern(pattern: string, timezone: string): Cron | undefined {
  try {
    return new Cron(pattern, { timezone, mode: '5-part' });
  } catch {
    return undefined;
  }
}

/** Whether it is a name of the time zone database, such as Europe/Berlin. */
export const isTimeZone = remembered((name: string): boolean => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
});
