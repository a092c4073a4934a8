import { originCopy, type PrimaryVolume } from '../resources/primary-volume.ts';
import type { SnapshotSpec } from '../resources/snapshot.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { isDeleting } from './object-plan.ts';
import type { SnapshotWorld } from './snapshot-world.ts';
import { agentVolumeName } from './volume-world.ts';

export type SnapshotPlace =
  | {
      readonly ok: true;
      /** The node whose copy will hold the snapshot. */
      readonly node: string;
      /** The node of the primary, whose agent is asked. */
      readonly requestedFrom: string;
      readonly volume: string;
      readonly copy: string;
      /** The mirror to name in the request; undefined when the primary itself holds the snapshot. */
      readonly mirror: string | undefined;
    }
  | Obstacle;

interface Obstacle {
  readonly ok: false;
  readonly reason: string;
  readonly message: string;
}

type Sources = Pick<SnapshotWorld, 'mirror' | 'volume'>;

/** Where a snapshot has to be requested, and where it will be. */
export function locateSource(world: Sources, spec: Pick<SnapshotSpec, 'source'>): SnapshotPlace {
  return spec.source.mirror === undefined
    ? onVolume(world.volume, spec.source.volume ?? '')
    : onMirror(world, spec.source.mirror);
}

function onVolume(volume: PrimaryVolume | undefined, name: string): SnapshotPlace {
  if (volume === undefined) return missing('PrimaryVolume', name);
  const { node, copies } = volume.status ?? {};
  if (node === undefined) return notReadyYet('PrimaryVolume', name);
  const copy = copies?.find((candidate) => candidate.node === node)?.name ?? originCopy;
  if (copy === originCopy && volume.spec.buffer === undefined) {
    return obstacle(
      'NoBuffer',
      `PrimaryVolume ${name} has no buffer to keep a snapshot in; add spec.buffer, or take it of a mirror`,
    );
  }
  return { ok: true, node, requestedFrom: node, volume: agentVolumeName(volume), copy, mirror: undefined };
}

function onMirror(world: Sources, name: string): SnapshotPlace {
  const { mirror, volume } = world;
  if (mirror === undefined) return missing('StandbyMirror', name);
  if (isDeleting(mirror)) return obstacle('SourceDeleting', `StandbyMirror ${name} is being deleted`);
  if (volume === undefined) return missing('PrimaryVolume', mirror.spec.primaryVolumeRef.name);
  if (mirror.spec.buffer === undefined) {
    return obstacle('NoBuffer', `StandbyMirror ${name} has no buffer to keep a snapshot in; add spec.buffer`);
  }
  const holder = mirror.status?.node;
  const primary = volume.status?.node;
  if (holder === undefined || primary === undefined || mirror.status?.volume !== agentVolumeName(volume)) {
    return notReadyYet('StandbyMirror', name);
  }
  return {
    ok: true,
    node: holder,
    requestedFrom: primary,
    volume: agentVolumeName(volume),
    copy: name,
    mirror: holder === primary ? undefined : wayTo(mirror, volume),
  };
}

/** By way of the standby that feeds it, unless that is the primary now. */
function wayTo({ metadata, spec }: StandbyMirror, volume: PrimaryVolume): string {
  const upstream = volume.status?.copies?.find(({ name }) => name === spec.mirrorRef?.name);
  return upstream === undefined || upstream.node === volume.status?.node
    ? metadata.name
    : `${upstream.name}/${metadata.name}`;
}

function missing(kind: string, name: string): Obstacle {
  return obstacle('SourceNotFound', `there is no ${kind} ${name} in this namespace`);
}

function notReadyYet(kind: string, name: string): Obstacle {
  return obstacle('SourceNotReady', `${kind} ${name} has not been placed yet`);
}

function obstacle(reason: string, message: string): Obstacle {
  return { ok: false, reason, message };
}
