import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Connection } from '../core/connection.ts';
import type { Arbiter } from '../mirror/arbiter.ts';
import type { MirrorDevice } from '../mirror/mirror-device.ts';
import type { Connector, MirrorTiming } from '../mirror/mirror-link-options.ts';
import { StandbySession } from '../mirror/standby-session.ts';
import { openMirrors, recordUnusable, withJournals } from './copy-mirrors.ts';
import { refusalOf, StandbyCopyOfVolume } from './standby-copy.ts';
import { VolumeFill } from './volume-fill.ts';
import { type FillOrigin, RecordStore, type VolumeRecord } from './volume-record.ts';
import { openStack, type VolumeFolders, type VolumeStack } from './volume-stack.ts';

export interface CopyOptions {
  readonly record: VolumeRecord;
  readonly folders: VolumeFolders;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  /** Names unlike any other: of resync bases and of snapshot attempts. */
  readonly newId: () => string;
  /** Of this agent, for volumes that have a record there. */
  readonly arbiter?: Arbiter | undefined;
  /** The limit on the resyncs of mirrors that have none of their own. */
  readonly resyncBytesPerSecond?: number | undefined;
  /** Opens a connection to an agent that keeps a snapshot from which a volume is filled. */
  readonly connectForFilling?: ((origin: FillOrigin) => Promise<Connection>) | undefined;
  /** Bytes of an asynchronous mirror's stream in memory. */
  readonly queueBytes?: number | undefined;
}

/** What differs with the role of a copy. */
export type CopyRole =
  | { readonly kind: 'primary'; readonly mirror: MirrorDevice }
  /** `mirror`: the copies behind it, if it has any (a cascade). */
  | { readonly kind: 'standby'; readonly standby: StandbyCopyOfVolume; readonly mirror: MirrorDevice | undefined };

/** One copy of a volume in use. */
export interface OpenedCopy {
  readonly store: RecordStore;
  readonly stack: VolumeStack;
  readonly role: CopyRole;
}

/**
 * Takes a copy into use in the role that its record says.
 * @throws UnderstudyError Io, NoSpace, Invalid (written by a newer release)
 */
export async function openCopy(options: CopyOptions): Promise<OpenedCopy> {
  const { record, folders, clock, log } = options;
  const store = new RecordStore(folders.data, record);
  // What a standby held and had not applied died with it, so it is worth less until the primary has confirmed it. It runs
  // again from the next resync on; a primary does at once.
  await store.update((before) => ({
    ...before,
    standby: {
      ...before.standby,
      clean: before.standby.clean && !before.running,
      stream: before.running ? undefined : before.standby.stream,
    },
    running: before.role === 'primary',
  }));
  const stack = await openStack(record, folders, clock, log, await openFill(options, store));
  if (!record.created) await store.update((before) => ({ ...before, created: true }));
  return { store, stack, role: await openRole(options, store, stack) };
}

async function openFill(options: CopyOptions, store: RecordStore): Promise<VolumeFill | undefined> {
  const { folders, clock, log, resyncBytesPerSecond, connectForFilling } = options;
  const connect =
    connectForFilling ??
    (() => Promise.reject(new UnderstudyError('Unavailable', 'volumes are not filled from snapshots here')));
  return VolumeFill.open({ store, directory: folders.data, connect, clock, log, bytesPerSecond: resyncBytesPerSecond });
}

/** Stops in order: the mirror, then the layers from the top down; the record says so at the end. */
export async function closeCopy({ store, stack, role }: OpenedCopy): Promise<void> {
  if (role.kind === 'primary') {
    await role.mirror.close();
  } else {
    await role.standby.stop();
    await (role.mirror ?? stack.top).close();
  }
  await store.update((record) => ({ ...record, running: false }));
}

/** What can be changed under a copy that is in use. */
export type LiveChange = Pick<VolumeRecord, 'epoch' | 'mirrors' | 'onLoss' | 'arbiterKey' | 'peers' | 'fill'>;

/**
 * Changes the mirrors, what happens on their loss, the arbiter's record and the epoch under a copy that is in use. A newer
 * epoch, or another record, has every link made anew, so that each standby is asked, and marked, under the new one.
 * @throws UnderstudyError Fenced; Unavailable, then the record still has the mirrors of before
 */
export async function changeLive({ store, role }: OpenedCopy, change: LiveChange): Promise<void> {
  const { mirrors, onLoss, arbiterKey, peers, fill } = change;
  const epoch = Math.max(store.record.epoch, change.epoch);
  const relink = arbiterKey !== undefined && arbiterKey !== store.record.arbiterKey;
  // On disk before anybody is told of it: an epoch never falls.
  await store.update((record) => ({
    ...record,
    epoch,
    onLoss,
    ...(arbiterKey === undefined ? {} : { arbiterKey }),
    ...(peers === undefined ? {} : { peers }),
    ...(fill === undefined || record.fill === undefined ? {} : { fill: { ...fill, state: record.fill.state } }),
  }));
  if (role.kind === 'standby') await role.standby.refuseBelow(epoch);
  await role.mirror?.setMirrors(withJournals(mirrors, store.record.pool), { epoch, relink });
  await store.update((record) => ({ ...record, mirrors: [...mirrors] }));
}

/**
 * Puts a copy into another role without closing what is below, so that those who read its snapshots go on. `plan` decides,
 * on what the record says when the old role has ended, what it becomes; if it throws, the copy is what it was.
 */
export async function changeRole(
  options: CopyOptions,
  { store, stack, role }: OpenedCopy,
  plan: (record: VolumeRecord) => VolumeRecord,
): Promise<{ readonly role: CopyRole; readonly refused: unknown }> {
  if (role.kind === 'standby') await role.standby.stop();
  await role.mirror?.detach();
  await stack.top.flush();
  let refused: unknown;
  try {
    // The old role has ended in good order, as at a stop.
    await store.update((record) => plan({ ...record, running: false }));
  } catch (error) {
    refused = error;
  }
  await store.update((record) => ({ ...record, running: record.role === 'primary' }));
  return { role: await openRole(options, store, stack), refused };
}

async function openRole(options: CopyOptions, store: RecordStore, stack: VolumeStack): Promise<CopyRole> {
  const { clock, log, folders, connect, timing, newId, arbiter, resyncBytesPerSecond, queueBytes } = options;
  const onUnusable = (state: 'Fenced' | 'Failed', reason: string) => {
    log.error({ state, reason }, 'this copy must not be used any more');
    void recordUnusable(store, log, state, reason);
  };
  const open = () =>
    openMirrors({
      stack,
      store,
      folders,
      queueBytes,
      connect,
      clock,
      timing,
      log,
      newId,
      onUnusable,
      arbiter,
      resyncBytesPerSecond,
    });
  if (store.record.role === 'primary') return { kind: 'primary', mirror: await open() };
  const mirror = store.record.mirrors.length > 0 ? await open() : undefined;
  const onFailed = (reason: string) => onUnusable('Failed', reason);
  return { kind: 'standby', standby: new StandbyCopyOfVolume(stack, store, log, clock, onFailed, mirror), mirror };
}

/** Tells whoever takes a primary for a standby why it is none. */
export function refuseMirror(
  connection: Connection,
  store: RecordStore,
  stack: VolumeStack,
  log: Log,
  clock: Clock,
): void {
  const refused = () =>
    Promise.reject(new UnderstudyError('Conflict', `volume ${store.record.volume} is primary here`));
  const copy: ConstructorParameters<typeof StandbySession>[1] = {
    device: stack.top,
    admit: async (hello) =>
      refusalOf(store.record, stack.top, hello) ?? {
        reason: 'NotStandby',
        message: `volume ${store.record.volume} is primary here`,
        epoch: store.record.epoch,
      },
    beginResync: refused,
    resumeStream: refused,
    becomeInSync: refused,
    takeSnapshot: refused,
    failed: async () => undefined,
    ended: () => undefined,
  };
  new StandbySession(connection, copy, log, clock);
}
