import type { VolumeCondition } from '../../common/csi/messages.ts';
import type { SnapshotView, VolumeView } from '../api/contract/volumes.ts';

/** What is wrong with a volume, or with the snapshot of it that is mounted. */
export function conditionOf(view: VolumeView, snapshot: string | undefined): VolumeCondition {
  if (snapshot !== undefined) return snapshotCondition(view.snapshots, snapshot);
  if (view.state === 'Ready') return { abnormal: false, message: 'the volume is ready' };
  const why = view.lastError === undefined ? '' : `: ${view.lastError}`;
  return { abnormal: true, message: `the volume is ${view.state}${why}` };
}

function snapshotCondition(snapshots: readonly SnapshotView[], name: string): VolumeCondition {
  const found = snapshots.find((snapshot) => snapshot.name === name);
  if (found?.state === 'Ready') return { abnormal: false, message: `snapshot ${name} is valid` };
  const why = found ? `is ${found.state}: ${found.reason ?? ''}` : 'is not there any more';
  return { abnormal: true, message: `snapshot ${name} ${why}` };
}
