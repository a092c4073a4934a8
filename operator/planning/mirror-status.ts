import type { MirrorView } from '../../agent/api/contract/volumes.ts';
import { formatBytes } from '../../common/quantity.ts';
import type { Finding } from '../resources/conditions.ts';
import type { StandbyMirrorStatus } from '../resources/standby-mirror.ts';
import { failureOf } from './actions.ts';
import { notReady, notReadyAfter, unseen } from './findings.ts';
import { feederOf, type MirrorContext, type MirrorFact } from './mirror-facts.ts';
import { findPool, sameDiskReason } from './pools.ts';
import { agentVolumeName } from './volume-world.ts';

/** How a mirror whose standby has been placed stands: first Ready, then InSync. */
export function linkFindings(fact: MirrorFact, context: MirrorContext): Finding[] {
  const { primary } = context;
  if (primary?.observation.kind !== 'present' || primary.trouble !== undefined) return primaryUnseen(context);
  const feeder = feederOf(fact, primary);
  if (feeder?.observation.kind !== 'present') return feederUnseen(fact);
  const missing = standbyUnseen(fact);
  if (fact.link === undefined) {
    const refused = feederRefusal(feeder, context);
    const waiting =
      missing ?? addressUnknown(fact) ?? refused ?? notReady('Pending', `${feeder.what} has not been told of it yet`);
    return [waiting, { ...waiting, type: 'InSync' }];
  }
  const inSync = inSyncFinding(fact.link);
  const ready = isFollowing(fact.link) ? missing : undefined;
  return [ready ?? readyFinding(fact.link, inSync), inSync];
}

/** What the primary says about a mirror cannot be known while its agent is silent. */
function primaryUnseen({ primary, volume }: MirrorContext): Finding[] {
  if (primary === undefined) {
    const waiting = notReady('VolumeNotReady', `PrimaryVolume ${volume?.metadata.name} has not been placed yet`);
    return [waiting, { ...waiting, type: 'InSync' }];
  }
  const { reason, message } = primary.trouble ?? unseen(primary.node, primary.observation);
  return [
    notReady(reason, `of the primary: ${message}`),
    { type: 'InSync', status: 'Unknown', reason, message: `of the primary: ${message}` },
  ];
}

/** Nor can what a standby says about a cascade. */
function feederUnseen({ upstream }: MirrorFact): Finding[] {
  const waiting =
    upstream?.placed && upstream.observation
      ? unseen(upstream.placed.node, upstream.observation)
      : { reason: 'Pending', message: 'it has not been placed yet' };
  const finding = notReady(waiting.reason, `of the standby of mirror ${upstream?.name}: ${waiting.message}`);
  return [finding, { ...finding, type: 'InSync' }];
}

function standbyUnseen(fact: MirrorFact): Finding | undefined {
  if (fact.placed === undefined || fact.observation === undefined || fact.view !== undefined) return undefined;
  if (fact.observation.kind === 'absent') return notReady('Pending', 'the standby is being created');
  const { reason, message } = unseen(fact.placed.node, fact.observation);
  return notReady(reason, message);
}

function addressUnknown({ placed, address }: MirrorFact): Finding | undefined {
  if (placed === undefined || address !== undefined) return undefined;
  const message = `the agent of node ${placed.node} has not said at which address of the mirrors' network it is reached`;
  return notReady('NoMirrorAddress', message);
}

function feederRefusal(
  feeder: { readonly what: string; readonly node: string },
  { world, volume }: MirrorContext,
): Finding | undefined {
  if (volume === undefined) return undefined;
  const put = { type: 'put-volume', node: feeder.node, volume: agentVolumeName(volume) } as const;
  const failure = failureOf(world.outcomes, put);
  return (
    failure && notReadyAfter({ ...failure, message: `${feeder.what} could not be told of it: ${failure.message}` })
  );
}

function inSyncFinding(link: MirrorView): Finding {
  if (isFollowing(link) && link.mode === 'asynchronous') {
    const message = 'it follows the primary in order, as far behind as its lag says';
    return { type: 'InSync', status: 'False', reason: 'Asynchronous', message };
  }
  if (link.state === 'InSync') {
    return { type: 'InSync', status: 'True', reason: 'InSync', message: 'it holds every acknowledged write' };
  }
  return { type: 'InSync', status: 'False', reason: link.state, message: explain(link) };
}

function readyFinding(link: MirrorView, inSync: Finding): Finding {
  return { ...inSync, type: 'Ready', status: isFollowing(link) ? 'True' : 'False' };
}

/** Its standby is a consistent image, of now or of a moment ago. */
function isFollowing({ mode, state }: MirrorView): boolean {
  return state === 'InSync' || (mode === 'asynchronous' && state === 'Lagging');
}

function explain(link: MirrorView): string {
  const error = link.lastError === undefined ? '' : `; ${link.lastError}`;
  switch (link.state) {
    case 'Connecting':
      return `the primary is not connected to it${error}`;
    case 'Resyncing': {
      const { copiedBytes = 0, totalBytes = link.dirtyBytes } = link.resync ?? {};
      return `${formatBytes(copiedBytes)} of ${formatBytes(totalBytes)} copied${error}`;
    }
    case 'Outdated':
      return `it misses ${formatBytes(link.dirtyBytes)}${error}`;
    default:
      return `a newer epoch exists${error}`;
  }
}

/** The part of the status that is read from the agents. */
export function measuredStatus(
  fact: MirrorFact,
  reversed: MirrorFact | undefined,
): Omit<StandbyMirrorStatus, 'conditions'> {
  const { view } = fact;
  const { link, standing } = reversed ?? fact;
  const buffer = view?.buffer;
  return {
    state: stateOf(fact),
    ...(link === undefined || standing !== 'standby' ? {} : linkStatus(link)),
    ...(buffer === undefined
      ? {}
      : {
          buffer: {
            usedBytes: buffer.usedBytes,
            capacityBytes: buffer.capacityBytes,
            usedPercent: percent(buffer.usedBytes, buffer.capacityBytes),
            snapshots: view?.snapshots.length ?? 0,
            maxSnapshots: buffer.maxSnapshots,
          },
        }),
  };
}

function stateOf(fact: MirrorFact): NonNullable<StandbyMirrorStatus['state']> {
  if (fact.standing === 'promoted') return 'Promoted';
  if (fact.standing === 'former') return 'Outdated';
  if (fact.link !== undefined && fact.standing === 'standby') return fact.link.state;
  if (fact.placed === undefined || fact.observation?.kind === 'absent') return 'Pending';
  return fact.view === undefined ? 'Unknown' : 'Connecting';
}

function linkStatus(
  link: MirrorView,
): Pick<StandbyMirrorStatus, 'dirtyBytes' | 'lagBytes' | 'lagSeconds' | 'progress'> {
  const { resync, dirtyBytes, lagBytes, lagSeconds } = link;
  return {
    dirtyBytes,
    lagBytes,
    // Tenths: a status that changes with every look is written with every look.
    ...(lagSeconds === undefined ? {} : { lagSeconds: Math.round(lagSeconds * 10) / 10 }),
    ...(resync === undefined
      ? {}
      : { progress: { ...resync, percent: percent(resync.copiedBytes, resync.totalBytes) } }),
  };
}

function percent(part: number, whole: number): number {
  return whole === 0 ? 100 : Math.floor((part * 100) / whole);
}

/** Whether a buffer has a disk of its own, as far as the NodePools tell; undefined if there is no buffer. */
export function bufferFinding(
  { world }: Pick<MirrorContext, 'world'>,
  node: string | undefined,
  pool: string | undefined,
  bufferPool: string | undefined,
): Finding | undefined {
  if (node === undefined || pool === undefined || bufferPool === undefined) return undefined;
  const of = findPool(world.cluster.pools, node, pool);
  const buffer = findPool(world.cluster.pools, node, bufferPool);
  if (of === undefined || buffer === undefined) return undefined;
  const why = sameDiskReason(of, buffer);
  if (why === undefined)
    return {
      type: 'BufferOnOwnDisk',
      status: 'True',
      reason: 'OtherPool',
      message: 'its pools are not on the same disk for all that can be told',
    };
  const message = `the buffer competes with the volume for one disk, and is lost together with it: ${why}`;
  return { type: 'BufferOnOwnDisk', status: 'False', reason: 'SameDisk', message };
}
