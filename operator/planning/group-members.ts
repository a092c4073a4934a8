import { groupAttemptAnnotation, groupLabel, groupUidLabel } from '../resources/group.ts';
import type { NewObject } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { apiVersionOf } from '../resources/resource.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type GroupMember,
  maxGroupMembers,
  type SnapshotGroup,
  type SnapshotGroupSpec,
  snapshotGroups,
} from '../resources/snapshot-group.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { listNames } from './findings.ts';
import { locateSource } from './snapshot-source.ts';
import { agentSnapshotName } from './snapshot-world.ts';

/** What a group's members are of, in its namespace. */
export interface GroupSources {
  readonly mirrors: readonly StandbyMirror[];
  readonly volumes: readonly PrimaryVolume[];
}

/** What is asked of the agents for one member. */
export interface MemberRequest {
  readonly member: string;
  /** Of the primary, where acknowledgements are held. */
  readonly node: string;
  readonly volume: string;
  readonly snapshot: string;
  readonly mirror: string | undefined;
}

type Members =
  | { readonly ok: true; readonly members: readonly GroupMember[] }
  | { readonly ok: false; readonly reason: string; readonly message: string };

/** The members that a group has, once and for all. */
export function chooseMembers(
  { metadata }: SnapshotGroup,
  spec: SnapshotGroupSpec,
  { mirrors }: GroupSources,
): Members {
  const wanted = Object.entries(spec.mirrorSelector?.matchLabels ?? {});
  const selected = mirrors
    .filter(({ metadata: { labels = {} } }) => wanted.every(([name, value]) => labels[name] === value))
    .map((mirror) => ({ mirror: mirror.metadata.name }))
    .sort((a, b) => a.mirror.localeCompare(b.mirror));
  const sources = spec.sources ?? selected;
  if (sources.length === 0)
    return {
      ok: false,
      reason: 'NoMembers',
      message: 'no StandbyMirror of this namespace has the labels of mirrorSelector',
    };
  if (sources.length > maxGroupMembers) {
    const message = `mirrorSelector finds ${sources.length} StandbyMirrors; a group has at most ${maxGroupMembers}`;
    return { ok: false, reason: 'TooManyMembers', message };
  }
  const members = sources.map((source) => ({ snapshot: `${metadata.name}-${nameOf(source)}`, ...source }));
  return { ok: true, members };
}

function nameOf({ mirror, volume }: Pick<GroupMember, 'mirror' | 'volume'>): string {
  return mirror ?? volume ?? '';
}

export function newMember(
  { metadata }: SnapshotGroup,
  { template }: SnapshotGroupSpec,
  { snapshot, mirror, volume }: GroupMember,
  attempt: number,
): NewObject<Snapshot> {
  const { name, namespace = '', uid } = metadata;
  return {
    apiVersion: apiVersionOf(snapshots),
    kind: snapshots.kind,
    metadata: {
      name: snapshot,
      namespace,
      labels: { ...template.labels, [groupUidLabel]: uid, ...(name.length > 63 ? {} : { [groupLabel]: name }) },
      annotations: { [groupAttemptAnnotation]: String(attempt) },
      ownerReferences: [
        { apiVersion: apiVersionOf(snapshotGroups), kind: snapshotGroups.kind, name, uid, controller: true },
      ],
    },
    spec: {
      source: { ...(mirror === undefined ? {} : { mirror }), ...(volume === undefined ? {} : { volume }) },
      consistency: {},
      claim: template.claim,
    },
  };
}

/** Whether a Snapshot was made for this attempt of its group. */
export function isOfAttempt({ metadata }: Pick<Snapshot, 'metadata'>, attempt: number | undefined): boolean {
  return metadata.annotations?.[groupAttemptAnnotation] === String(attempt);
}

type Requests =
  | { readonly ok: true; readonly requests: readonly MemberRequest[] }
  | { readonly ok: false; readonly message: string };

/** What to ask of the agents, once it stands in every member's status where it will be, so that it can be found again. */
export function requestsOf(
  members: readonly GroupMember[],
  own: readonly Snapshot[],
  { mirrors, volumes }: GroupSources,
): Requests {
  const requests: MemberRequest[] = [];
  const waiting: string[] = [];
  for (const member of members) {
    const snapshot = own.find(({ metadata }) => metadata.name === member.snapshot);
    const mirror = mirrors.find(({ metadata }) => metadata.name === member.mirror);
    const volumeName = member.volume ?? mirror?.spec.primaryVolumeRef?.name;
    const volume = volumes.find(({ metadata }) => metadata.name === volumeName);
    const place = locateSource({ mirror, volume }, { source: member });
    if (!place.ok) waiting.push(`${member.snapshot}: ${place.message}`);
    else if (snapshot?.status?.node !== place.node || snapshot.status.requestedFrom !== place.requestedFrom)
      waiting.push(`${member.snapshot} has no place yet`);
    else {
      const { requestedFrom: node, volume: at, mirror: through } = place;
      requests.push({
        member: member.snapshot,
        node,
        volume: at,
        snapshot: agentSnapshotName(snapshot),
        mirror: through,
      });
    }
  }
  return waiting.length === 0 ? { ok: true, requests } : { ok: false, message: listNames(waiting) };
}
