import type { Bench, LoadResult } from './bench-context.ts';
import type { Load, Target } from './fio.ts';
import type { Measured } from './row.ts';
import { ratioOf } from './statistics.ts';

/** One measurement of one side; higher is better. */
export type Side = (round: number) => Promise<number>;

/** Rounds of both sides, one after the other in each round, so that whatever else the machine does meets both. */
export async function compare(bench: Bench, unit: string, ours: Side, theirs: Side): Promise<Measured> {
  const values: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  for (let round = 0; round < bench.options.rounds; round += 1) {
    const our = await ours(round);
    const their = await theirs(round);
    values.ours.push(our);
    values.theirs.push(their);
    bench.progress(`round ${round + 1}: ${our.toFixed(1)} against ${their.toFixed(1)} ${unit}`);
  }
  return { unit, ...values, ratio: ratioOf(values.ours, values.theirs) };
}

export type Shape = Pick<Load, 'pattern' | 'blockBytes' | 'depth' | 'flushEvery' | 'reads'>;

/** The same timed load on both sides. */
export async function compareLoads(bench: Bench, shape: Shape, ours: Target, theirs: Target): Promise<Measured> {
  const { seconds, volumeBytes } = bench.options;
  const load = { ...shape, seconds, rangeBytes: volumeBytes };
  const sequential = shape.pattern === 'write' || shape.pattern === 'read';
  const cpuUs: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  const figure = (result: LoadResult) => (sequential ? result.bytesPerSecond / 1e6 : result.operationsPerSecond);
  const side = (name: 'ours' | 'theirs', target: Target) => async (round: number) => {
    const result = await bench.fio(name, round, target, load);
    cpuUs[name].push(result.cpuUs);
    return figure(result);
  };
  const measured = await compare(bench, sequential ? 'MB/s' : 'IOPS', side('ours', ours), side('theirs', theirs));
  return { ...measured, cpuUs };
}
