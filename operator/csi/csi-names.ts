import { createHash } from 'node:crypto';
import { group } from '../resources/group.ts';

/** On what was made over CSI: a digest of the name that was asked for, by which a repeated call finds it. */
export const csiNameLabel = `${group}/csi-name`;
/** The name itself; it may hold what a label cannot. */
export const csiNameAnnotation = `${group}/csi-name`;

/** Kubernetes' own names for such objects are shorter; labels and conditions repeat a name. */
const maxNameLength = 63;

export function csiNameDigest(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 40);
}

/** The name of the object for a CSI name: the same where it can be one, as those of Kubernetes' side-cars can. */
export function objectNameOf(name: string): string {
  if (name.length <= maxNameLength && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name)) return name;
  return `csi-${csiNameDigest(name)}`;
}

/** What identifies an object at the agents: `pv-<uid>` a volume, `pv-<uid>@snap-<uid>` a snapshot of it. */
export interface ParsedId {
  readonly volumeUid: string;
  readonly snapshotUid: string | undefined;
}

/** Undefined for what is no id of ours. */
export function parseId(id: string): ParsedId | undefined {
  const [, volumeUid, snapshotUid] = /^pv-([^@]+)(?:@snap-([^@]+))?$/.exec(id) ?? [];
  return volumeUid === undefined ? undefined : { volumeUid, snapshotUid };
}
