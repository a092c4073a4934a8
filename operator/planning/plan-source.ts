import type { VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';
import type { Finding } from '../resources/conditions.ts';
import { restoreUidLabel } from '../resources/group.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { PrimaryFact } from './primary.ts';
import { type VolumeSource, viewOf } from './volume-world.ts';

type Origin = NonNullable<VolumeSpecInput['source']>;

/** With what content a new volume begins, or why that is not known yet. */
export type PlannedSource =
  | { readonly origin: Origin }
  | { readonly origin?: undefined; readonly reason: string; readonly message: string };

/**
 * A volume with a source is created only when its snapshot is kept for it, and its node may read it: without that it would
 * be a volume that cannot be read.
 */
export function planSource(
  source: VolumeSource | undefined,
  volume: PrimaryVolume,
  name: string,
  node: string,
): PlannedSource {
  const wait = (message: string) => ({ reason: 'WaitingForSource', message });
  const restore = source?.restore;
  if (restore === undefined) return wait(`there is no SnapshotRestore ${name} in this namespace`);
  if (volume.metadata.labels?.[restoreUidLabel] !== restore.metadata.uid)
    return wait(`SnapshotRestore ${name} is not the one that made this volume`);
  const from = restore.status?.source;
  if (from?.heldFor !== node) return wait(`SnapshotRestore ${name} has not made its snapshot readable for it yet`);
  const origin = originOf(source);
  return origin === undefined
    ? wait(`no agent is configured for node ${from.node}, which keeps the snapshot`)
    : { origin };
}

/** The source of a volume that is still being filled, if the agent which keeps the snapshot has another address now. */
export function movedSource(source: VolumeSource | undefined, view: VolumeView): Origin | undefined {
  if (view.filling?.state !== 'Filling') return undefined;
  const origin = originOf(source);
  return origin?.volume === view.filling.volume && origin.address !== view.filling.address ? origin : undefined;
}

function originOf(source: VolumeSource | undefined): Origin | undefined {
  const from = source?.restore?.status?.source;
  if (from === undefined || source?.address === undefined) return undefined;
  const { volume, uid, snapshot, node } = from;
  return { volume, uid, snapshot, node, address: source.address };
}

/** How far a volume is that was made with the content of a snapshot. */
export function filledFindings(primary: PrimaryFact): Finding[] {
  const filling = viewOf(primary.observation)?.filling;
  if (filling === undefined) return [];
  if (filling.state === 'Filled')
    return [{ type: 'Filled', status: 'True', reason: 'Filled', message: 'it has all of its content itself' }];
  const { filledBytes, totalBytes, lastError, lost } = filling;
  const percent = Math.floor((100 * filledBytes) / totalBytes);
  const message =
    lastError === undefined
      ? `${percent} % of it are here, the rest is read from its snapshot`
      : `what is not here cannot be read: ${lastError}`;
  const reason = lastError === undefined ? 'Filling' : lost ? 'SourceLost' : 'SourceUnreachable';
  return [{ type: 'Filled', status: 'False', reason, message }];
}
