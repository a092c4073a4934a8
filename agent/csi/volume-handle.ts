import { createHash } from 'node:crypto';
import { latestSnapshot } from '../../common/csi/driver.ts';
import { nameSchema } from '../api/contract/fields.ts';

/** What a volume handle of the CSI driver stands for. */
export type VolumeHandle =
  /** `<volume>`: the live volume. */
  | { readonly kind: 'live'; readonly volume: string }
  /** `<volume>@<snapshot>`: one snapshot, always read-only. */
  | { readonly kind: 'snapshot'; readonly volume: string; readonly snapshot: string }
  /** `<volume>@latest`: the newest snapshot that is ready when a pod mounts it. */
  | { readonly kind: 'latest'; readonly volume: string };

/** Undefined for a text that is no handle of ours. */
export function parseHandle(text: string): VolumeHandle | undefined {
  const [volume = '', snapshot, ...more] = text.split('@');
  if (more.length > 0 || !nameSchema.safeParse(volume).success) return undefined;
  if (snapshot === undefined) return { kind: 'live', volume };
  if (snapshot === latestSnapshot) return { kind: 'latest', volume };
  return nameSchema.safeParse(snapshot).success ? { kind: 'snapshot', volume, snapshot } : undefined;
}

/** The name of the mount of a handle at a path: always the same, so that nothing need be known to undo it. */
export function mountNameOf(handle: string, path: string): string {
  return `csi-${createHash('sha256').update(`${handle}\0${path}`).digest('hex').slice(0, 24)}`;
}
