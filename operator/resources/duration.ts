import { UnderstudyError } from '../../common/errors.ts';

/** Like Go's durations, without fractions and signs: "500ms", "30s", "1h30m". */
export const durationPattern = /^([0-9]+(ms|s|m|h))+$/;

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration. @throws UnderstudyError Invalid */
export function parseDurationMs(text: string): number {
  if (!durationPattern.test(text)) {
    throw new UnderstudyError('Invalid', `"${text}" is not a duration: expected something like 500ms, 30s or 24h`);
  }
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(/([0-9]+)(ms|s|m|h)/g))
    totalMs += Number(amount) * (unitMs[unit ?? ''] ?? 0);
  return totalMs;
}
