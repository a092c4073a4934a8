import type { Machine } from './machine.ts';
import { type Bar, type Measured, type Row, type Verdict, verdictOf } from './row.ts';
import { median } from './statistics.ts';

/** What a run found out about one row. */
export interface RowReport {
  readonly name: string;
  readonly what: string;
  readonly against?: string;
  readonly bar?: Bar;
  readonly verdict: Verdict | 'failed';
  readonly measured?: Measured;
  /** Processes that wanted a core in the minute before the row's end, those of the row included. */
  readonly load: number;
  readonly error?: string;
}

export function reportOf(row: Row, load: number, outcome: { measured: Measured } | { error: string }): RowReport {
  const { name, what, against, bar } = row;
  const facts = { name, what, load, ...(against === undefined ? {} : { against }), ...(bar ? { bar } : {}) };
  if ('error' in outcome) return { ...facts, verdict: 'failed', ...outcome };
  const { measured } = outcome;
  return { ...facts, verdict: verdictOf(bar, measured.ratio?.value ?? median(measured.ours)), measured };
}

/** The table, in Markdown. */
export function markdown(machine: Machine, reports: readonly RowReport[]): string {
  const { cpu, cores, memoryBytes, kernel, fileSystem, versions, loadAverage } = machine;
  const lines = [
    `${cores} × ${cpu}, ${(memoryBytes / 1024 ** 3).toFixed(0)} GiB, Linux ${kernel}, ${fileSystem}`,
    '',
    `${Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}; load average at the start ${loadAverage.map((load) => load.toFixed(1)).join(' ')}`,
    '',
    '| row | what | against | ours | theirs | ratio (rounds) | bar | | CPU µs per operation | load |',
    '|---|---|---|---:|---:|---:|---:|---|---:|---:|',
    ...reports.map(tableLine),
  ];
  const notes = reports.flatMap(({ name, measured, error }) =>
    [...(measured?.notes ?? []), ...(error === undefined ? [] : [error])].map((note) => `- ${name}: ${note}`),
  );
  return [...lines, ...(notes.length > 0 ? ['', ...notes] : []), ''].join('\n');
}

function tableLine({ name, what, against, bar, verdict, measured, load }: RowReport): string {
  const cells = [
    name,
    what,
    against ?? '',
    ...figures(measured),
    showBar(bar),
    verdict,
    cpu(measured),
    load.toFixed(1),
  ];
  return `| ${cells.join(' | ')} |`;
}

function figures(measured: Measured | undefined): [string, string, string] {
  if (!measured) return ['', '', ''];
  const { ours, theirs, unit, ratio } = measured;
  return [
    `${show(median(ours))} ${unit}`,
    theirs ? `${show(median(theirs))} ${unit}` : '',
    ratio ? `${ratio.value.toFixed(2)} (${ratio.lowest.toFixed(2)}–${ratio.highest.toFixed(2)})` : '',
  ];
}

function cpu(measured: Measured | undefined): string {
  if (!measured?.cpuUs) return '';
  const { ours, theirs } = measured.cpuUs;
  return `${show(median(ours))} / ${show(median(theirs))}`;
}

function showBar(bar: Bar | undefined): string {
  if (!bar) return '';
  return 'atLeast' in bar ? `≥ ${bar.atLeast}` : `≤ ${bar.atMost}`;
}

function show(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
