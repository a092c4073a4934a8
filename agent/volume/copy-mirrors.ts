import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { MirrorSpec } from '../api/contract/volumes.ts';
import { type Arbiter, noArbiter, withRecord } from '../mirror/arbiter.ts';
import { IntentBitmap } from '../mirror/intent-bitmap.ts';
import { MirrorDevice } from '../mirror/mirror-device.ts';
import type { Connector, MirrorTiming, OpenedJournal } from '../mirror/mirror-link-options.ts';
import { StreamJournal } from '../mirror/stream-journal.ts';
import type { RecordStore } from './volume-record.ts';
import { intentFile, type VolumeFolders, type VolumeStack } from './volume-stack.ts';

const journalPrefix = 'journal-';
const defaultJournalBytes = 256 * 1024 * 1024;

export interface MirrorsOptions {
  readonly stack: VolumeStack;
  readonly store: RecordStore;
  readonly folders: VolumeFolders;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  readonly newId: () => string;
  /** Bytes of an asynchronous mirror's stream in memory. */
  readonly queueBytes?: number | undefined;
  /** Of this agent, for volumes that have a record there. */
  readonly arbiter?: Arbiter | undefined;
  /** The limit on the resyncs of mirrors that have none of their own. */
  readonly resyncBytesPerSecond?: number | undefined;
  readonly onUnusable: (state: 'Fenced' | 'Failed', reason: string) => void;
}

/** Puts the mirrors of a copy over its stack, and keeps their records in the volume's. */
export async function openMirrors(options: MirrorsOptions): Promise<MirrorDevice> {
  const { stack, store, folders, queueBytes, connect, clock, timing, log, newId, onUnusable } = options;
  const { volume, uid, epoch, role, size, blockSize, mirrors, mirrorRecords, standby } = store.record;
  const openJournal = (spec: MirrorSpec) => openJournalOf(spec, store.record.pool, folders, log);
  const device = new MirrorDevice({
    base: stack.top,
    intent: await IntentBitmap.open(folders.data, intentFile, size),
    identity: { volume, uid, epoch, size, blockSize },
    arbiter: arbiterOf(store, options.arbiter),
    connect,
    clock,
    timing,
    log,
    newBaseId: newId,
    resyncBytesPerSecond: options.resyncBytesPerSecond,
    openJournal,
    restore: () => store.record.restore,
    ...(queueBytes === undefined ? {} : { queueBytes }),
    ...(role === 'standby' ? { standby: { orderly: standby.consistent } } : {}),
    persist: (records) => store.update((record) => ({ ...record, mirrorRecords: [...records] })),
    onFenced: (message) => onUnusable('Fenced', message),
    onFailed: (message) => onUnusable('Failed', message),
  });
  const { unusable } = store.record;
  if (unusable) device.disable(unusable.state, unusable.reason);
  else {
    const explicit = withJournals(mirrors, store.record.pool);
    device.start(explicit, mirrorRecords, await openJournals(explicit, openJournal, folders));
  }
  return device;
}

/**
 * The mirrors as they are asked for, with the journals that were left to the agent spelled out: a journal asked for in
 * words that amount to the one there is changes nothing.
 */
export function withJournals(mirrors: readonly MirrorSpec[], volumePool: string): MirrorSpec[] {
  return mirrors.map((spec) => {
    if (spec.mode === 'synchronous') return spec;
    const { pool = volumePool, capacity = defaultJournalBytes } = spec.journal ?? {};
    return { ...spec, journal: { pool, capacity } };
  });
}

async function openJournals(
  mirrors: readonly MirrorSpec[],
  open: (spec: MirrorSpec) => Promise<OpenedJournal | undefined>,
  folders: VolumeFolders,
): Promise<Map<string, OpenedJournal>> {
  const journals = new Map<string, OpenedJournal>();
  for (const spec of mirrors) {
    const journal = spec.mode === 'asynchronous' ? await open(spec) : undefined;
    if (journal) journals.set(spec.name, journal);
  }
  // Of mirrors that were taken from the volume while it was not in use.
  for (const file of await folders.data.list()) {
    const name = file.startsWith(journalPrefix) ? file.slice(journalPrefix.length).replace(/\.seal$/, '') : undefined;
    if (name !== undefined && !journals.has(name)) await folders.data.remove(file);
  }
  return journals;
}

/** A journal that cannot be had makes no volume unusable: the mirror lives in memory. */
async function openJournalOf(
  { name, journal }: MirrorSpec,
  volumePool: string,
  folders: VolumeFolders,
  log: Log,
): Promise<OpenedJournal | undefined> {
  const pool = journal?.pool ?? volumePool;
  try {
    const directory = pool === volumePool ? folders.data : await folders.inPool(pool);
    const capacityBytes = journal?.capacity ?? defaultJournalBytes;
    return await StreamJournal.open(
      { directory, name: `${journalPrefix}${name}`, capacityBytes },
      log.child({ mirror: name }),
    );
  } catch (error) {
    log.error({ mirror: name, pool, error: errorMessage(error) }, 'the journal of a mirror cannot be used');
    return undefined;
  }
}

/** Asks what the volume says at the time of the question: it may be changed while it is in use. */
function arbiterOf(store: RecordStore, ofAgent: Arbiter | undefined): Arbiter {
  const now = () => {
    const { arbiterKey, onLoss } = store.record;
    return arbiterKey === undefined ? noArbiter(onLoss) : withRecord(ofAgent, arbiterKey, onLoss);
  };
  return {
    markOutdated: (question) => now().markOutdated(question),
    markInSync: (question) => now().markInSync(question),
    markDropped: (question) => now().markDropped(question),
  };
}

/** Writes down that the copy must not be used any more; if even that fails, the log is all that is left. */
export async function recordUnusable(
  store: RecordStore,
  log: Log,
  state: 'Fenced' | 'Failed',
  reason: string,
): Promise<void> {
  try {
    await store.update((record) => ({ ...record, unusable: { state, reason } }));
  } catch (error) {
    log.error({ state, reason, error: errorMessage(error) }, 'cannot write down that this copy must not be used');
  }
}
