import type { Bench } from './bench-context.ts';
import type { Ratio } from './statistics.ts';

/** One line of the table. */
export interface Row {
  /** What --rows knows it by. */
  readonly name: string;
  readonly what: string;
  /** What it is compared with, if with anything. */
  readonly against?: string;
  readonly bar?: Bar;
  /** Too long, or in need of too much, to be run unless it is named. */
  readonly onlyWhenNamed?: boolean;
  measure(bench: Bench): Promise<Measured>;
}

/** What a row has to reach: a ratio, or an amount in the row's unit. */
export type Bar = { readonly atLeast: number } | { readonly atMost: number };

export interface Measured {
  readonly unit: string;
  /** One value per round. */
  readonly ours: readonly number[];
  readonly theirs?: readonly number[];
  /** What the bar is compared with: without it, the median of ours. Above 1 is better for us unless the row says otherwise. */
  readonly ratio?: Ratio;
  /** The processor's time per operation in microseconds, of the processes of each side without fio's. */
  readonly cpuUs?: { readonly ours: readonly number[]; readonly theirs: readonly number[] };
  readonly notes?: readonly string[];
}

export type Verdict = 'met' | 'missed' | 'no bar';

export function verdictOf(bar: Bar | undefined, figure: number): Verdict {
  if (!bar) return 'no bar';
  const reached = 'atLeast' in bar ? figure >= bar.atLeast : figure <= bar.atMost;
  return reached ? 'met' : 'missed';
}
