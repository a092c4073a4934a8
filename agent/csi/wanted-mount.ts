import { CsiError } from '../../common/csi/csi-error.ts';
import type { AccessMode, VolumeCapability } from '../../common/csi/messages.ts';
import { fsTypeSchema } from '../api/contract/mounts.ts';
import type { VolumeHandle } from './volume-handle.ts';

/** What a volume capability asks of a mount. */
export interface WantedMount {
  readonly access: 'filesystem' | 'block';
  readonly accessMode: AccessMode;
  readonly readOnly: boolean;
  /** As it was asked for; a snapshot is mounted as what it is. */
  readonly fsType: 'ext4' | 'xfs' | 'btrfs';
  readonly options: readonly string[];
}

/** A live volume is on one node at a time. */
const liveModes: ReadonlySet<AccessMode> = new Set([
  'SINGLE_NODE_WRITER',
  'SINGLE_NODE_READER_ONLY',
  'SINGLE_NODE_SINGLE_WRITER',
  'SINGLE_NODE_MULTI_WRITER',
]);
const snapshotModes: ReadonlySet<AccessMode> = new Set(['SINGLE_NODE_READER_ONLY', 'MULTI_NODE_READER_ONLY']);

/**
 * Pure. `readOnly`: asked for beside the capability.
 * @throws CsiError INVALID_ARGUMENT, naming what is missing or not possible
 */
export function wantedMount(
  handle: VolumeHandle,
  capability: VolumeCapability | null,
  { readOnly }: { readOnly: boolean },
): WantedMount {
  if (!capability) throw invalid('no volume capability was given');
  const mode = capability.accessMode?.mode ?? 'UNKNOWN';
  const isLive = handle.kind === 'live';
  const allowed = isLive ? liveModes : snapshotModes;
  if (mode === 'UNKNOWN') throw invalid('the volume capability has no access mode');
  if (!allowed.has(mode)) {
    const what = isLive ? 'a volume is used on one node at a time' : 'a snapshot is read-only';
    throw invalid(`access mode ${mode} is not possible: ${what}; possible are ${[...allowed].join(', ')}`);
  }
  const isReader = !isLive || readOnly || mode === 'SINGLE_NODE_READER_ONLY';
  if (capability.block) {
    return { access: 'block', accessMode: mode, readOnly: isReader, fsType: 'ext4', options: [] };
  }
  if (!capability.mount) throw invalid('the volume capability says neither block nor mount');
  const { fsType, mountFlags } = capability.mount;
  const { options, saysReadOnly } = splitFlags(handle, mountFlags);
  return {
    access: 'filesystem',
    accessMode: mode,
    readOnly: isReader || saysReadOnly,
    fsType: isLive && fsType !== '' ? knownFsType(fsType) : 'ext4',
    options,
  };
}

/** "ro" and "rw" among the flags are no options for mount(8) here, but say what we have a word of our own for. */
function splitFlags(handle: VolumeHandle, flags: readonly string[]): { options: string[]; saysReadOnly: boolean } {
  const options = flags.filter((flag) => flag !== 'ro' && flag !== 'rw' && flag !== '');
  if (handle.kind !== 'live' && flags.includes('rw')) throw invalid('mount flag "rw": a snapshot is read-only');
  return { options, saysReadOnly: flags.includes('ro') };
}

function knownFsType(fsType: string): WantedMount['fsType'] {
  const known = fsTypeSchema.safeParse(fsType);
  if (known.success) return known.data;
  throw invalid(`filesystem "${fsType}" is not supported; supported are ${fsTypeSchema.options.join(', ')}`);
}

function invalid(message: string): CsiError {
  return new CsiError('INVALID_ARGUMENT', message);
}
