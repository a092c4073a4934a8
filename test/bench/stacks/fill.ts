import type { Bench } from '../bench-context.ts';
import { fioCommand, runFio, type Target } from '../fio.ts';

/** Writes all of a target once, so that no measurement meets space that is allocated but not yet written. */
export async function fill(bench: Bench, target: Target, bytes: number = bench.options.volumeBytes): Promise<void> {
  const load = { pattern: 'write', blockBytes: 1024 * 1024, depth: 4, rangeBytes: bytes, endFlush: true } as const;
  await runFio(fioCommand(target, { ...load, seed: 1 }));
}
