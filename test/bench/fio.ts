import { run } from './command.ts';

/** What fio loads. */
export type Target = NbdTarget | FileTarget;
export interface NbdTarget {
  readonly kind: 'nbd';
  readonly socket: string;
  readonly exportName: string;
  /** Of the processes behind it. */
  readonly pids?: () => readonly number[];
}
export interface FileTarget {
  readonly kind: 'file';
  readonly path: string;
  readonly engine: 'io_uring' | 'psync';
}

export interface Load {
  readonly pattern: 'randwrite' | 'randread' | 'write' | 'read' | 'randrw';
  readonly blockBytes: number;
  readonly depth: number;
  /** How long, or else how much. */
  readonly seconds?: number;
  readonly bytes?: number;
  /** The part of the target that is used, from its beginning. */
  readonly rangeBytes: number;
  /** A flush after every so many writes. */
  readonly flushEvery?: number;
  /** Of a mixed load, in percent. */
  readonly reads?: number;
  /** Ends with a flush, which counts as part of the run. */
  readonly endFlush?: boolean;
  /** Different content and a different order for each. */
  readonly seed: number;
  /** The beginning of the name of files into which the latency of every single operation goes. */
  readonly latencyLog?: string;
}

export interface FioResult {
  readonly operations: number;
  readonly operationsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly meanLatencyUs: number;
  readonly p99LatencyUs: number;
  readonly maxLatencyUs: number;
}

export function nbdUri({ socket, exportName }: NbdTarget): string {
  return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${socket}`;
}

/**
 * The command for a load. Blocks of a random load are drawn without memory when it is timed, and each at most once when its
 * amount is given.
 */
export function fioCommand(target: Target, load: Load): string[] {
  const { seconds, bytes, flushEvery, reads, latencyLog } = load;
  return [
    'fio',
    '--name=bench',
    ...(target.kind === 'nbd'
      ? ['--ioengine=nbd', `--uri=${nbdUri(target)}`]
      : [`--ioengine=${target.engine}`, `--filename=${target.path}`]),
    `--rw=${load.pattern}`,
    `--bs=${load.blockBytes}`,
    `--iodepth=${load.depth}`,
    `--size=${load.rangeBytes}`,
    `--randseed=${load.seed}`,
    ...(seconds === undefined
      ? [`--io_size=${bytes ?? load.rangeBytes}`]
      : ['--time_based', '--norandommap', `--runtime=${seconds}`]),
    ...(flushEvery === undefined ? [] : [`--fsync=${flushEvery}`]),
    ...(reads === undefined ? [] : [`--rwmixread=${reads}`]),
    ...(load.endFlush ? ['--end_fsync=1'] : []),
    ...(latencyLog === undefined ? [] : [`--write_lat_log=${latencyLog}`, '--log_unix_epoch=1']),
    '--thread',
    '--output-format=json',
  ];
}

/** Runs a load and returns what fio measured; reads and writes of a mixed load are added up. */
export async function runFio(command: readonly string[]): Promise<FioResult> {
  const { stdout } = await run(command);
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioOutput;
  const [job] = jobs;
  if (!job) throw new Error(`fio reported no job: ${stdout}`);
  if (job.error !== 0) throw new Error(`${command.join(' ')} met error ${job.error}`);
  const sides = [job.read, job.write].filter(({ total_ios: operations }) => operations > 0);
  const operations = sum(sides.map((side) => side.total_ios));
  return {
    operations,
    operationsPerSecond: sum(sides.map((side) => side.iops)),
    bytesPerSecond: sum(sides.map((side) => side.bw_bytes)),
    meanLatencyUs: sum(sides.map((side) => side.lat_ns.mean * side.total_ios)) / operations / 1000,
    p99LatencyUs: Math.max(...sides.map((side) => side.clat_ns.percentile?.['99.000000'] ?? 0)) / 1000,
    maxLatencyUs: Math.max(...sides.map((side) => side.lat_ns.max)) / 1000,
  };
}

interface FioOutput {
  readonly jobs: readonly { readonly error: number; readonly read: FioSide; readonly write: FioSide }[];
}

interface FioSide {
  readonly total_ios: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly lat_ns: { readonly mean: number; readonly max: number };
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
