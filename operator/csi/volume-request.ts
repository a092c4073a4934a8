import { CsiError } from '../../common/csi/csi-error.ts';
import { topologyKey, topologyValue } from '../../common/csi/driver.ts';
import type { AccessMode, CapacityRange, CreateVolumeRequest, VolumeCapability } from '../../common/csi/messages.ts';
import { type ClaimRequest, sizeOf } from '../planning/plan-claim.ts';

/** What a volume gets if nobody says how large it is to be. */
const defaultBytes = 2 ** 30;
const maxNameLength = 128;

const modeNames: Readonly<Record<AccessMode, string>> = {
  UNKNOWN: 'UNKNOWN',
  SINGLE_NODE_WRITER: 'ReadWriteOnce',
  SINGLE_NODE_MULTI_WRITER: 'ReadWriteOnce',
  SINGLE_NODE_READER_ONLY: 'ReadWriteOnce',
  SINGLE_NODE_SINGLE_WRITER: 'ReadWriteOncePod',
  MULTI_NODE_READER_ONLY: 'ReadOnlyMany',
  MULTI_NODE_SINGLE_WRITER: 'ReadWriteMany',
  MULTI_NODE_MULTI_WRITER: 'ReadWriteMany',
};

/** A name of objects in the parameters of a side-car; no business of what is made. */
export const namespaceParameter = 'csi.storage.k8s.io/pvc/namespace';

/** Pure. The claim that a CreateVolume is. @throws CsiError INVALID_ARGUMENT, OUT_OF_RANGE */
export function toClaimRequest(
  request: CreateVolumeRequest,
  volumeName: string,
  nodes: readonly string[],
): ClaimRequest {
  checkName(request.name);
  const capabilities = checkCapabilities(request.volumeCapabilities);
  const isBlock = capabilities.map(({ block }) => Boolean(block));
  if (isBlock.includes(true) && isBlock.includes(false)) {
    throw invalid('the capabilities ask for a filesystem and for a raw device: a volume is one of them');
  }
  const selectedNode = selectedNodeOf(request, nodes);
  return {
    volumeName,
    ...rangeOf(request.capacityRange),
    volumeMode: isBlock[0] ? 'Block' : 'Filesystem',
    accessModes: capabilities.map(accessModeOf),
    ...(selectedNode === undefined ? {} : { selectedNode }),
    reclaimPolicy: 'Delete',
    // They are the PersistentVolume's, which another makes.
    mountOptions: [],
  };
}

/** @throws CsiError INVALID_ARGUMENT */
export function checkName(name: string): void {
  if (name === '') throw invalid('no name was given');
  if (name.length > maxNameLength) throw invalid(`the name has ${name.length} characters, more than ${maxNameLength}`);
}

/** @throws CsiError INVALID_ARGUMENT when there is none, or one that says nothing */
export function checkCapabilities(capabilities: readonly VolumeCapability[]): readonly VolumeCapability[] {
  if (capabilities.length === 0) throw invalid('no volume capabilities were given');
  for (const { block, mount, accessMode } of capabilities) {
    if (!block && !mount) throw invalid('a volume capability says neither block nor mount');
    if (!accessMode || accessMode.mode === 'UNKNOWN') throw invalid('a volume capability has no access mode');
  }
  return capabilities;
}

export function accessModeOf({ accessMode }: VolumeCapability): string {
  return modeNames[accessMode?.mode ?? 'UNKNOWN'];
}

/** @throws CsiError INVALID_ARGUMENT, OUT_OF_RANGE */
export function rangeOf(range: CapacityRange | null): { requestedBytes: number; limitBytes: number } {
  const { requiredBytes = 0, limitBytes = 0 } = range ?? {};
  if (requiredBytes < 0 || limitBytes < 0) throw invalid('a size must not be negative');
  const unsaid = limitBytes === 0 ? defaultBytes : Math.min(defaultBytes, limitBytes);
  const requestedBytes = requiredBytes === 0 ? unsaid : requiredBytes;
  const size = sizeOf({ requestedBytes });
  if (!Number.isSafeInteger(size)) throw new CsiError('OUT_OF_RANGE', `no volume has ${requestedBytes} bytes`);
  if (limitBytes > 0 && size > limitBytes) {
    const message = `a volume of ${requestedBytes} bytes takes ${size}, above the limit of ${limitBytes} bytes`;
    throw new CsiError('OUT_OF_RANGE', message);
  }
  return { requestedBytes, limitBytes };
}

/** Where the first consumer runs: the first of the preferred places, or the only one that is possible. */
function selectedNodeOf(
  { accessibilityRequirements }: CreateVolumeRequest,
  nodes: readonly string[],
): string | undefined {
  const { preferred = [], requisite = [] } = accessibilityRequirements ?? {};
  const place = preferred[0] ?? (requisite.length === 1 ? requisite[0] : undefined);
  const value = place?.segments[topologyKey];
  return value === undefined ? undefined : nodeAt(value, nodes);
}

/** The node of a topology's value, which is shortened if the name is long. */
export function nodeAt(value: string, nodes: readonly string[]): string {
  return nodes.find((node) => topologyValue(node) === value) ?? value;
}

function invalid(message: string): CsiError {
  return new CsiError('INVALID_ARGUMENT', message);
}
