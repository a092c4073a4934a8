import type { Operation, VolumeStatistics } from '../volume/operation-statistics.ts';
import { operations } from '../volume/operation-statistics.ts';
import type { VolumeView } from './contract/volumes.ts';

/** One copy of a volume as it is at a scrape. */
export interface ScrapedVolume {
  readonly view: VolumeView;
  /** Undefined while its thread does not run. */
  readonly statistics: VolumeStatistics | undefined;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface VolumeMetric {
  readonly type: 'gauge' | 'counter';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  /** What one volume adds to it. */
  samples(volume: ScrapedVolume): Sample[];
}

/** A gauge of what the API says about a copy. */
function gauge(
  name: string,
  help: string,
  labelNames: readonly string[],
  samples: (view: VolumeView) => Sample[],
): VolumeMetric {
  return { type: 'gauge', name, help, labelNames, samples: ({ view }) => samples(view) };
}

/** A counter of the volume's thread: it begins anew when the volume is started again. */
function counter(
  name: string,
  help: string,
  labelNames: readonly string[],
  samples: (statistics: VolumeStatistics, volume: string) => Sample[],
): VolumeMetric {
  return {
    type: 'counter',
    name,
    help,
    labelNames,
    samples: ({ view, statistics }) => (statistics === undefined ? [] : samples(statistics, view.volume)),
  };
}

function perOperation(
  { operations: counts }: VolumeStatistics,
  volume: string,
  value: (operation: Operation) => number,
): Sample[] {
  return operations
    .filter((operation) => counts[operation].buckets.some((count) => count > 0))
    .map((operation) => ({ labels: { volume, operation }, value: value(operation) }));
}

/** The time of a snapshot's barrier in seconds since 1970, or undefined for one that is not usable. */
function takenAtSeconds({ valid, takenAt }: VolumeView['snapshots'][number]): number | undefined {
  if (!valid || takenAt === undefined) return undefined;
  const seconds = Date.parse(takenAt) / 1000;
  return Number.isFinite(seconds) ? seconds : undefined;
}

function newestSnapshot({ volume, snapshots }: VolumeView): Sample[] {
  const times = snapshots.flatMap((snapshot) => takenAtSeconds(snapshot) ?? []);
  return times.length === 0 ? [] : [{ labels: { volume }, value: Math.max(...times) }];
}

const ofMirror = ['volume', 'mirror'];

/**
 * What is told about each volume. Labels stay bounded: the volumes that are on this node now, their mirrors, and fixed
 * sets of states. Snapshots, which come and go, are counted and never named. Described for users in docs/metrics.md.
 */
export const volumeMetrics: readonly VolumeMetric[] = [
  gauge('understudy_volumes', 'Copies of volumes on this node.', ['role', 'state'], ({ role, state }) => [
    { labels: { role, state }, value: 1 },
  ]),
  gauge(
    'understudy_volume_state',
    '1 for the role and state a copy is in.',
    ['volume', 'role', 'state'],
    ({ volume, role, state }) => [{ labels: { volume, role, state }, value: 1 }],
  ),
  gauge('understudy_volume_size_bytes', 'Size of a volume.', ['volume'], ({ volume, size }) => [
    { labels: { volume }, value: size },
  ]),
  gauge('understudy_volume_epoch', 'Epoch of a copy.', ['volume'], ({ volume, epoch }) => [
    { labels: { volume }, value: epoch },
  ]),
  gauge('understudy_volume_attached', '1 while clients use the live volume.', ['volume'], ({ volume, attached }) => [
    { labels: { volume }, value: attached ? 1 : 0 },
  ]),
  gauge(
    'understudy_standby_link_up',
    '1 while the primary is connected to this standby.',
    ['volume'],
    ({ volume, role, link }) =>
      role === 'standby' ? [{ labels: { volume }, value: link?.connected === true ? 1 : 0 }] : [],
  ),
  gauge(
    'understudy_standby_promotable',
    '1 while this standby, to its own knowledge, holds every acknowledged write.',
    ['volume'],
    ({ volume, role, clean, consistent }) =>
      role === 'standby' ? [{ labels: { volume }, value: clean && consistent ? 1 : 0 }] : [],
  ),
  gauge(
    'understudy_mirror_state',
    '1 for the state a mirror is in.',
    ['volume', 'mirror', 'state'],
    ({ volume, mirrors }) => mirrors.map(({ name, state }) => ({ labels: { volume, mirror: name, state }, value: 1 })),
  ),
  gauge('understudy_mirror_dirty_bytes', 'Bytes that a standby is known to miss.', ofMirror, ({ volume, mirrors }) =>
    mirrors.map(({ name, dirtyBytes }) => ({ labels: { volume, mirror: name }, value: dirtyBytes })),
  ),
  gauge(
    'understudy_mirror_lag_bytes',
    'Bytes sent or queued that a standby does not hold yet.',
    ofMirror,
    ({ volume, mirrors }) =>
      mirrors.map(({ name, lagBytes }) => ({ labels: { volume, mirror: name }, value: lagBytes })),
  ),
  gauge(
    'understudy_mirror_lag_seconds',
    'How far in the past the image of an asynchronous standby is.',
    ofMirror,
    ({ volume, mirrors }) =>
      mirrors.flatMap(({ name, lagSeconds }) =>
        lagSeconds === undefined ? [] : [{ labels: { volume, mirror: name }, value: lagSeconds }],
      ),
  ),
  gauge(
    'understudy_mirror_resync_copied_bytes',
    'Bytes that the resync under way has copied.',
    ofMirror,
    ({ volume, mirrors }) =>
      mirrors.flatMap(({ name, resync }) =>
        resync ? [{ labels: { volume, mirror: name }, value: resync.copiedBytes }] : [],
      ),
  ),
  gauge(
    'understudy_mirror_resync_total_bytes',
    'Bytes that the resync under way has to copy.',
    ofMirror,
    ({ volume, mirrors }) =>
      mirrors.flatMap(({ name, resync }) =>
        resync ? [{ labels: { volume, mirror: name }, value: resync.totalBytes }] : [],
      ),
  ),
  gauge(
    'understudy_mirror_differing_bytes',
    'Bytes in which the last verification of a mirror found its copies to differ.',
    ofMirror,
    ({ volume, mirrors }) =>
      mirrors.flatMap(({ name, verification }) =>
        verification ? [{ labels: { volume, mirror: name }, value: verification.differingBytes }] : [],
      ),
  ),
  gauge('understudy_snapshots', 'Snapshots that a copy holds.', ['volume', 'state'], ({ volume, snapshots }) =>
    snapshots.map(({ state }) => ({ labels: { volume, state }, value: 1 })),
  ),
  gauge(
    'understudy_snapshot_newest_timestamp_seconds',
    'When the newest usable snapshot of a copy was taken.',
    ['volume'],
    newestSnapshot,
  ),
  gauge(
    'understudy_snapshot_exclusive_bytes',
    'Bytes that deleting single snapshots would free, added up.',
    ['volume'],
    ({ volume, snapshots }) => snapshots.map(({ exclusiveBytes }) => ({ labels: { volume }, value: exclusiveBytes })),
  ),
  gauge('understudy_snapshot_readers', 'Connections that read snapshots now.', ['volume'], ({ volume, snapshots }) =>
    snapshots.map(({ readers }) => ({ labels: { volume }, value: readers })),
  ),
  counter(
    'understudy_snapshots_invalidated_total',
    'Snapshots that lost their content, for lack of space or because of the disk of the buffer.',
    ['volume'],
    ({ invalidatedSnapshots }, volume) => [{ labels: { volume }, value: invalidatedSnapshots }],
  ),
  gauge('understudy_buffer_used_bytes', 'Bytes in the copy-on-write buffer of a copy.', ['volume'], (view) =>
    view.buffer ? [{ labels: { volume: view.volume }, value: view.buffer.usedBytes }] : [],
  ),
  gauge('understudy_buffer_capacity_bytes', 'Capacity of the copy-on-write buffer of a copy.', ['volume'], (view) =>
    view.buffer ? [{ labels: { volume: view.volume }, value: view.buffer.capacityBytes }] : [],
  ),
  counter(
    'understudy_operation_bytes_total',
    'Bytes that clients of the live volume have read and written.',
    ['volume', 'operation'],
    (statistics, volume) => perOperation(statistics, volume, (operation) => statistics.operations[operation].bytes),
  ),
  counter(
    'understudy_operation_errors_total',
    'Operations of clients of the live volume that failed.',
    ['volume', 'operation'],
    (statistics, volume) => perOperation(statistics, volume, (operation) => statistics.operations[operation].errors),
  ),
];
