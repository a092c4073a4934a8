import type { SnapshotView } from '../api/contract/volumes.ts';
import type { SnapshotInfo } from '../cow/snapshot-info.ts';

const states = { Pending: 'Waiting', Ready: 'Ready', Invalid: 'Invalid' } as const;

/** A snapshot as the API shows it. */
export function snapshotView(info: SnapshotInfo): SnapshotView {
  const { name, state, takenAt, sizeBytes, consistency, hooks, bufferBytes, exclusiveBytes, readers, reason } = info;
  return {
    name,
    state: states[state],
    valid: state === 'Ready',
    takenAt,
    size: sizeBytes,
    consistency,
    ...(hooks === undefined ? {} : { hooks }),
    bufferBytes,
    exclusiveBytes,
    readers,
    ...(reason === undefined ? {} : { reason }),
  };
}
