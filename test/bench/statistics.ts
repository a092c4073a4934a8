export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export interface Ratio {
  /** Of the medians. */
  readonly value: number;
  /** The lowest and the highest ratio of a single round. */
  readonly lowest: number;
  readonly highest: number;
}

/** How the first compares with the second, measured in the same rounds. */
export function ratioOf(first: readonly number[], second: readonly number[]): Ratio {
  const rounds = first.map((value, round) => value / (second[round] ?? Number.NaN));
  return { value: median(first) / median(second), lowest: Math.min(...rounds), highest: Math.max(...rounds) };
}
