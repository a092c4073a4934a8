import { compareLoads, type Shape } from '../compare.ts';
import type { Bar, Row } from '../row.ts';
import { mirroredVolume } from '../stacks/mirrored.ts';
import { qemuPair } from '../stacks/qemu-pair.ts';

const against = 'a pair of qemu-storage-daemons (blockdev-mirror, write-blocking)';

export const mirrorRows: readonly Row[] = [
  row('mirror-write-32', 'mirrored 4 KiB random write, depth 32', { atLeast: 2 }, random(32)),
  row('mirror-write-1', 'mirrored 4 KiB random write, depth 1', { atLeast: 1 }, random(1)),
  row(
    'mirror-write-128k',
    'mirrored 128 KiB sequential write, depth 8',
    { atLeast: 1.5 },
    { pattern: 'write', blockBytes: 128 * 1024, depth: 8 },
  ),
  row('mirror-fsync', 'mirrored 4 KiB random write, depth 1, a flush after each', undefined, {
    ...random(1),
    flushEvery: 1,
  }),
  row('mirror-mixed', 'mirrored 4 KiB random, 70 % reads, 30 % writes, depth 32', undefined, {
    ...random(32),
    pattern: 'randrw',
    reads: 70,
  }),
  {
    name: 'mirror-tls',
    what: 'mirrored with TLS, 4 KiB random write, depth 32',
    against: 'our own without TLS',
    bar: { atLeast: 0.8 },
    measure: async (bench) => {
      const withTls = await mirroredVolume(bench, { tls: true });
      const without = await mirroredVolume(bench);
      return compareLoads(bench, random(32), withTls.target, without.target);
    },
  },
];

function row(name: string, what: string, bar: Bar | undefined, shape: Shape): Row {
  return {
    name,
    what,
    against,
    ...(bar ? { bar } : {}),
    measure: async (bench) => {
      const ours = await mirroredVolume(bench);
      const theirs = await qemuPair(bench);
      return compareLoads(bench, shape, ours.target, theirs.target);
    },
  };
}

function random(depth: number): Shape {
  return { pattern: 'randwrite', blockBytes: 4096, depth };
}
