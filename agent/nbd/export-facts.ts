import { allocationContext, transmissionFlag } from './constants.ts';
import type { NbdExport } from './exports.ts';
import type { ExportFacts } from './handshake.ts';
import type { NbdLimits } from './limits.ts';

/** Efficient for page caches and filesystems alike. */
const preferredBlockBytes = 4096;

/** What clients are told of an export that was opened under this name. */
export function exportFacts(name: string, opened: NbdExport, limits: NbdLimits): ExportFacts {
  const { device } = opened;
  return {
    canonicalName: opened.name ?? name,
    description: opened.description,
    sizeBytes: device.size,
    blockSizes: {
      minimum: device.blockSize,
      preferred: Math.max(preferredBlockBytes, device.blockSize),
      maximum: limits.maxPayloadBytes,
    },
    flags: (structuredReplies) => transmissionFlags(opened, structuredReplies),
    contextNames: [allocationContext, ...opened.contexts.keys()],
  };
}

function transmissionFlags(opened: NbdExport, structuredReplies: boolean): number {
  const { hasFlags, readOnly, sendFlush, sendFua, sendTrim, sendWriteZeroes, sendFastZero } = transmissionFlag;
  const writing = opened.readOnly ? readOnly : sendTrim | sendWriteZeroes | sendFastZero;
  const fragments = structuredReplies ? transmissionFlag.sendDontFragment : 0;
  const multiConn = opened.multiConn ? transmissionFlag.canMultiConn : 0;
  return hasFlags | sendFlush | sendFua | transmissionFlag.sendCache | writing | fragments | multiConn;
}
