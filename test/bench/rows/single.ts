import type { Bench } from '../bench-context.ts';
import { compare, compareLoads, type Shape } from '../compare.ts';
import type { FileTarget } from '../fio.ts';
import type { Measured, Row } from '../row.ts';
import { bareFile, dropCache, qemuNbd, type ServedFile, singleVolume } from '../stacks/single.ts';

const against = 'qemu-nbd, writeback, io_uring';
const noSlower = { atLeast: 1 };
const write: Shape = { pattern: 'randwrite', blockBytes: 4096, depth: 32 };
const read: Shape = { pattern: 'randread', blockBytes: 4096, depth: 32 };

export const singleRows: readonly Row[] = [
  {
    name: 'single-write-32',
    what: 'one unmirrored volume, 4 KiB random write, depth 32',
    against,
    bar: noSlower,
    measure: (bench) => againstQemu(bench, write),
  },
  {
    name: 'single-read-32',
    what: 'one unmirrored volume, 4 KiB random read, depth 32',
    against,
    bar: noSlower,
    measure: (bench) => againstQemu(bench, read),
  },
  {
    name: 'single-read-cold',
    what: 'one unmirrored volume, 4 KiB random read, depth 32, page cache dropped',
    against,
    bar: noSlower,
    measure: coldReads,
  },
  {
    name: 'single-fsync',
    what: 'one unmirrored volume, 4 KiB random write, depth 1, a flush after each',
    against,
    measure: (bench) => againstQemu(bench, { ...write, depth: 1, flushEvery: 1 }),
  },
  {
    name: 'file-write-32',
    what: 'one unmirrored volume, 4 KiB random write, depth 32',
    against: 'the bare file, io_uring',
    measure: (bench) => againstFile(bench, 'io_uring', write),
  },
  {
    name: 'file-read-32',
    what: 'one unmirrored volume, 4 KiB random read, depth 32',
    against: 'the bare file, io_uring',
    measure: (bench) => againstFile(bench, 'io_uring', read),
  },
  {
    name: 'file-write-1',
    what: 'one unmirrored volume, 4 KiB random write, depth 1',
    against: 'the bare file, pwrite',
    measure: (bench) => againstFile(bench, 'psync', { ...write, depth: 1 }),
  },
];

async function againstQemu(bench: Bench, shape: Shape): Promise<Measured> {
  const ours = await singleVolume(bench);
  const theirs = await qemuNbd(bench);
  return compareLoads(bench, shape, ours.target, theirs.target);
}

async function againstFile(bench: Bench, engine: FileTarget['engine'], shape: Shape): Promise<Measured> {
  const ours = await singleVolume(bench);
  const file = await bareFile(bench);
  return compareLoads(bench, shape, ours.target, { ...file, engine });
}

/** Every block is read at most once, so that each has to come from the disk, or from what the kernel read ahead. */
async function coldReads(bench: Bench): Promise<Measured> {
  const ours = await singleVolume(bench);
  const theirs = await qemuNbd(bench);
  const { volumeBytes } = bench.options;
  const load = { ...read, bytes: Math.min(volumeBytes / 4, 128 * 1024 * 1024), rangeBytes: volumeBytes };
  const side =
    (name: string, { target, path }: ServedFile) =>
    async (round: number) => {
      // Pages that are not on the disk yet cannot be dropped.
      await bench.settle();
      await dropCache(path);
      return (await bench.fio(name, round, target, load)).operationsPerSecond;
    };
  return compare(bench, 'IOPS', side('ours', ours), side('theirs', theirs));
}
