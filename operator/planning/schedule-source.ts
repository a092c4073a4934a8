import { scheduleUidLabel } from '../resources/group.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { SnapshotSchedule } from '../resources/snapshot-schedule.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { isDeleting } from './object-plan.ts';

/** What a schedule takes its snapshots of. */
export interface ScheduleSource {
  /** Why none can be taken, until someone changes something. */
  readonly problem?: { readonly reason: string; readonly message: string } | undefined;
  /**
   * Snapshots that the schedule may keep, one at least: those of the buffer, less those that others made, less one for
   * the next. Undefined where the buffer, and so its limit, is not known.
   */
  readonly places?: number | undefined;
}

/** @param all the Snapshots of the namespace */
export function scheduleSource(
  schedule: SnapshotSchedule,
  mirror: StandbyMirror | undefined,
  volume: PrimaryVolume | undefined,
  all: readonly Snapshot[],
): ScheduleSource {
  const { mirror: mirrorName, volume: volumeName } = schedule.spec?.template?.source ?? {};
  const name = mirrorName ?? volumeName ?? '';
  const source = mirrorName === undefined ? volume : mirror;
  const kind = mirrorName === undefined ? 'PrimaryVolume' : 'StandbyMirror';
  if (source === undefined)
    return { problem: problem('SourceNotFound', `there is no ${kind} ${name} in this namespace`) };
  if (isDeleting(source)) return { problem: problem('SourceDeleting', `${kind} ${name} is being deleted`) };
  const { buffer } = source.spec;
  if (buffer === undefined) {
    // After a failover the primary may be a copy that has one.
    if (kind === 'PrimaryVolume') return {};
    return { problem: problem('NoBuffer', `${kind} ${name} has no buffer to keep snapshots in; add spec.buffer`) };
  }
  const others = all.filter((snapshot) => isBeside(snapshot, schedule));
  return { places: Math.max(1, buffer.maxSnapshots - others.length - 1) };
}

/** In the same buffer, and not made by the schedule. */
function isBeside(snapshot: Snapshot, schedule: SnapshotSchedule): boolean {
  const { mirror, volume } = schedule.spec.template.source;
  const source = snapshot.spec?.source;
  return (
    snapshot.metadata.labels?.[scheduleUidLabel] !== schedule.metadata.uid &&
    !isDeleting(snapshot) &&
    source?.mirror === mirror &&
    source?.volume === volume
  );
}

function problem(reason: string, message: string) {
  return { reason, message };
}
