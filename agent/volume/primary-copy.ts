import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { type Arbiter, noArbiter, withRecord } from '../mirror/arbiter.ts';
import { IntentBitmap } from '../mirror/intent-bitmap.ts';
import { MirrorDevice } from '../mirror/mirror-device.ts';
import type { Connector, MirrorTiming } from '../mirror/mirror-link-options.ts';
import type { RecordStore } from './volume-record.ts';
import { intentFile, type VolumeStack } from './volume-stack.ts';

export interface PrimaryOptions {
  readonly stack: VolumeStack;
  readonly store: RecordStore;
  readonly directory: StorageDirectory;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  readonly newId: () => string;
  /** Of this agent, for volumes that have a record there. */
  readonly arbiter?: Arbiter | undefined;
  /** The limit on the resyncs of mirrors that have none of their own. */
  readonly resyncBytesPerSecond?: number | undefined;
  readonly onUnusable: (state: 'Fenced' | 'Failed', reason: string) => void;
}

/** Puts the mirrors of a primary over its stack, and keeps their records in the volume's. */
export async function openPrimary(options: PrimaryOptions): Promise<MirrorDevice> {
  const { stack, store, directory, connect, clock, timing, log, newId, onUnusable } = options;
  const { volume, uid, epoch, size, blockSize, mirrors, mirrorRecords } = store.record;
  const device = new MirrorDevice({
    base: stack.top,
    intent: await IntentBitmap.open(directory, intentFile, size),
    identity: { volume, uid, epoch, size, blockSize },
    arbiter: arbiterOf(store, options.arbiter),
    connect,
    clock,
    timing,
    log,
    newBaseId: newId,
    resyncBytesPerSecond: options.resyncBytesPerSecond,
    persist: (records) => store.update((record) => ({ ...record, mirrorRecords: [...records] })),
    onFenced: (message) => onUnusable('Fenced', message),
    onFailed: (message) => onUnusable('Failed', message),
  });
  const { unusable } = store.record;
  if (unusable) device.disable(unusable.state, unusable.reason);
  else device.start(mirrors, mirrorRecords);
  return device;
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
