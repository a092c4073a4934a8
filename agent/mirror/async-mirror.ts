import { assert } from '../../common/assert.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { MirrorSpec, MirrorState as MirrorStateName, MirrorView } from '../api/contract/volumes.ts';
import type { Range } from '../core/range.ts';
import type { Acknowledgement } from './acknowledgement.ts';
import { Differences } from './differences.ts';
import { FollowedStream } from './followed-stream.ts';
import { releaseFormerStandby } from './former-standby.ts';
import { LinkConnection } from './link-connection.ts';
import type { Barrier, BarrierRecord, Refuse, Welcome } from './messages.ts';
import type { Announcement, Mirror } from './mirror.ts';
import type { AsyncMirrorOptions, MirrorRecord, VolumeIdentity } from './mirror-link-options.ts';
import { frameFlags, protocolVersion } from './protocol.ts';
import { Resync } from './resync.ts';
import { prepareBase } from './resync-base.ts';
import type { StandbyChannel } from './standby-channel.ts';

/** Bytes sent and not held by the standby, above which writes are recorded instead of sent during a resync. */
const skipWindowBytes = 32 * 1024 * 1024;
/** Nobody waits for the standby, and the link may be slow: it has this many times as long to answer. */
const patience = 6;

/**
 * - Connecting, Handshaking: there is no link.
 * - Resyncing: what differs is copied. The standby is the image of no moment, and has its safety snapshot.
 * - Streaming: everything goes to the standby in the order of its issue.
 */
type Phase = 'Connecting' | 'Handshaking' | 'Resyncing' | 'Streaming' | 'Fenced';

/**
 * The source's end of an asynchronous mirror: a stream of everything that is written, which the standby follows, and a
 * resync where the stream cannot be followed.
 *
 * Invariants
 * - Nothing of it holds up or fails a write of the source (invariant 7), and the arbiter is not asked: this standby is
 *   never promoted without an order that accepts the loss.
 * - While there is a stream (see FollowedStream), the standby's content is that of the stream's beginning changed by the
 *   entries up to some position, in order; while there is none, what may differ is in the record of differences.
 * - A stream begins at the end of a resync, at the moment at which nothing was left to copy.
 * - The standby is told that it is in order only at such a moment, and only while the source itself is (a cascade).
 * - An entry leaves the stream when the standby has synced what it says.
 */
export class AsyncMirror implements Mirror {
  readonly record: MirrorRecord;
  readonly #options: AsyncMirrorOptions;
  readonly #log: Log;
  readonly #differences: Differences;
  readonly #connection: LinkConnection;
  readonly #stream: FollowedStream;
  #spec: MirrorSpec;
  #identity: VolumeIdentity;
  #phase: Phase = 'Connecting';
  #resync: Resync | undefined;
  #resyncOver: Promise<void> = Promise.resolve();
  /** What the resync in front of the stream has copied is on the standby's stable storage. */
  #baseConfirmed = false;
  #stopping: Promise<void> | undefined;
  #features: readonly string[] = [];
  /** The answer to the welcome goes on with the stream; undefined: it is a resync. */
  #resuming: { readonly standbyInOrder: boolean } | undefined;
  /** The source is the image of one moment. */
  #orderly: boolean;
  /** Since when the standby has not followed, while there is no stream. */
  #behindSinceMs: number;

  constructor(options: AsyncMirrorOptions) {
    const { spec, record, log, identity, clock, journal, orderly, queueBytes } = options;
    this.record = record;
    this.#options = options;
    this.#spec = spec;
    this.#identity = identity;
    this.#log = log.child({ mirror: spec.name });
    this.#differences = new Differences(identity.size);
    this.#orderly = orderly;
    this.#behindSinceMs = clock.monotonicMs();
    this.#stream = new FollowedStream({
      queueBytes,
      journal: journal?.journal,
      clock,
      onBroken: (reason) => this.#break(reason),
    });
    const seal = record.scanned && record.baseId !== undefined ? journal?.seal : undefined;
    if (seal) {
      this.#stream.resume(seal);
      this.#baseConfirmed = true;
      this.#log.info({ entries: seal.end - seal.confirmed }, 'the mirror goes on with its journal');
    } else {
      this.#addSuspects();
    }
    this.#connection = this.#makeConnection();
  }

  get spec(): MirrorSpec {
    return this.#spec;
  }

  get epoch(): number {
    return this.#identity.epoch;
  }

  get needed(): boolean {
    return false;
  }

  /** Only as long as it is not certain that the standby, which was synchronous before, cannot be promoted any more. */
  get suspends(): boolean {
    return this.record.needed;
  }

  get inSync(): boolean {
    return this.#phase === 'Streaming' && this.#stream.exists;
  }

  start(): void {
    this.#connection.start();
    if (this.record.needed) void releaseFormerStandby(this.#options, () => this.#connection.stopped);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#connection.stop();
    await this.#resyncOver;
    try {
      if (this.#baseConfirmed) await this.#stream.seal();
    } catch (error) {
      this.#log.warn({ error: errorMessage(error) }, 'the journal cannot be closed; the standby is resynchronised');
    }
    await this.#options.journal?.journal.close();
  }

  async remove(): Promise<void> {
    this.#connection.stop();
    await this.#resyncOver;
    this.#break('the mirror has been removed');
    await this.#options.journal?.journal.remove();
  }

  async release(): Promise<void> {
    if (this.record.needed)
      throw new UnderstudyError('Unavailable', `mirror ${this.#spec.name}: the arbiter does not answer`);
  }

  abandon(error: UnderstudyError): void {
    this.#stream.abandon(error);
  }

  limitResync(bytesPerSecond: number | undefined): void {
    this.#options.limit.change(bytesPerSecond);
  }

  /** There is a newer epoch, the standby has another address, or its link other settings. The stream goes on. */
  change(spec: MirrorSpec, identity: VolumeIdentity): void {
    this.#spec = spec;
    this.#identity = identity;
    this.#connection.address = spec.address;
    this.#connection.drop('the mirror has been changed');
  }

  view(): MirrorView {
    const { name, address, mode, compression } = this.#spec;
    const stream = this.#stream;
    const dirtyBytes = this.#differences.remainingBytes;
    const { copiedBytes } = this.#differences;
    const nowMs = this.#options.clock.monotonicMs();
    const lagMs = stream.exists ? stream.lagMs : nowMs - this.#behindSinceMs;
    const journal = this.#options.journal?.journal;
    const { bytesPerSecond } = this.#options.limit;
    const state = this.#stateName();
    const { lastError } = this.#connection;
    return {
      name,
      address,
      mode,
      state,
      dirtyBytes,
      lagBytes: stream.exists ? stream.lagBytes : dirtyBytes + (this.#connection.channel?.inFlightBytes ?? 0),
      lagSeconds: Math.round(lagMs) / 1000,
      ...(journal ? { journal: { ...this.#spec.journal, ...journal.usage } } : {}),
      ...(compression ? { compression } : {}),
      ...(bytesPerSecond === undefined ? {} : { resyncBytesPerSecond: bytesPerSecond }),
      ...(this.#phase === 'Resyncing' ? { resync: { copiedBytes, totalBytes: copiedBytes + dirtyBytes } } : {}),
      ...(lastError && state !== 'InSync' && state !== 'Lagging' ? { lastError } : {}),
    };
  }

  #stateName(): MirrorStateName {
    switch (this.#phase) {
      case 'Streaming':
        if (!this.#stream.exists || !this.#orderly) return 'Resyncing';
        return this.#stream.lags ? 'Lagging' : 'InSync';
      case 'Resyncing':
      case 'Fenced':
        return this.#phase;
      case 'Connecting':
        return !this.#stream.exists && this.record.baseId !== undefined ? 'Outdated' : 'Connecting';
      default:
        return 'Connecting';
    }
  }

  // --- The source's operations ----------------------------------------------------------------------------------

  forwardWrite(offset: number, data: Uint8Array, fua: boolean): void {
    if (this.#stream.exists) return this.#stream.write(offset, data, fua);
    const range = { offset, length: data.length };
    const channel = this.#channelForResync(range);
    if (channel) channel.write(range, Buffer.from(data), 0);
    else this.#differences.missed.add(range);
  }

  forwardZeroes(range: Range, keepAllocated: boolean, fua: boolean): void {
    if (this.#stream.exists) return this.#stream.zero(range, keepAllocated, fua);
    const channel = this.#channelForResync(range);
    if (channel) channel.zero(range, keepAllocated ? frameFlags.keepAllocated : 0);
    else this.#differences.missed.add(range);
  }

  flush(_acknowledgement: Acknowledgement | undefined): void {
    if (this.#stream.exists) this.#stream.flush();
  }

  differs(range: Range): void {
    this.#differences.missed.add(range);
    if (this.#stream.exists) this.#break('the local device failed a write that the standby may get');
    else this.#connection.drop('the local device failed a write that the standby may have got');
  }

  barrier(barrier: Barrier): Promise<BarrierRecord> {
    if (!this.inSync || !this.#orderly) return Promise.reject(this.#notReady());
    if (barrier.via && !this.#features.includes('cascade')) {
      const message = `the agent of mirror ${this.#spec.name} knows no cascades; upgrade it`;
      return Promise.reject(new UnderstudyError('Invalid', message));
    }
    return this.#stream.barrier(barrier);
  }

  synced(): Promise<void> {
    return this.inSync ? this.#stream.synced() : Promise.reject(this.#notReady());
  }

  announce(what: Announcement): void {
    this.#orderly = what === 'order';
    const { baseId } = this.record;
    if (this.#stream.exists && baseId !== undefined)
      this.#stream.announce(what, { baseId, epoch: this.#identity.epoch });
  }

  /** The channel, if a write into the range is to be sent during a resync. */
  #channelForResync(range: Range): StandbyChannel | undefined {
    const { channel } = this.#connection;
    if (this.#phase !== 'Resyncing' || !channel) return undefined;
    this.#resync?.written(range);
    return channel.inFlightBytes < skipWindowBytes ? channel : undefined;
  }

  #notReady(): UnderstudyError {
    const { state, lastError } = this.view();
    return new UnderstudyError(
      'NotReady',
      `mirror ${this.#spec.name} does not follow now (${state})${lastError ? `: ${lastError}` : ''}; try again when it is InSync or Lagging`,
    );
  }

  /** Gives the stream up: from here on what differs is recorded, and a resync follows. */
  #break(reason: string, link: 'drop the link' | 'keep the link' = 'drop the link'): void {
    const error = new UnderstudyError('Unavailable', `mirror ${this.#spec.name} needs a resync: ${reason}`);
    const given = this.#stream.giveUp(this.#differences.missed, error);
    if (!given) return;
    this.#behindSinceMs = this.#options.clock.monotonicMs() - given.lagMs;
    if (given.resumed) this.#addSuspects();
    this.#log.warn({ reason, dirtyBytes: this.#differences.remainingBytes }, 'the stream to the standby is given up');
    if (link === 'drop the link') this.#connection.drop(reason);
  }

  #addSuspects(): void {
    for (const range of this.#options.suspects()) this.#differences.suspect.add(range);
  }

  // --- The link -------------------------------------------------------------------------------------------------

  #makeConnection(): LinkConnection {
    const { connect, clock, timing } = this.#options;
    return new LinkConnection(this.#spec.address, {
      volume: this.#identity.volume,
      connect,
      clock,
      timing,
      hello: (generation) => ({
        protocol: protocolVersion,
        ...this.#identity,
        mirror: this.#spec.name,
        generation,
        mode: 'asynchronous',
      }),
      wanted: () => this.#phase !== 'Fenced',
      connected: () => {
        this.#phase = 'Handshaking';
      },
      disconnected: (channel, reason) => this.#disconnected(channel, reason),
      events: (channel) => ({
        heard: () => undefined,
        welcome: (welcome) => void this.#onWelcome(channel, welcome),
        refused: (refuse) => this.#onRefused(refuse),
        resyncAccepted: () => this.#onAccepted(channel),
        confirmed: () => void this.#onConfirmed(channel),
        held: (sequence) => this.#stream.onHeld(sequence),
        synced: (sequence) => this.#stream.onSynced(sequence),
        barrierDone: (done) => this.#stream.onBarrierDone(done),
      }),
      tick: (nowMs) => this.#tick(nowMs),
    });
  }

  #tick(nowMs: number): void {
    if (this.#connection.isOverdue(nowMs, patience)) {
      this.#connection.drop(
        `no answer from the standby for ${patience * this.#options.timing.acknowledgementTimeoutMs} ms`,
      );
      return;
    }
    this.#stream.askForSync();
  }

  #disconnected(channel: StandbyChannel, reason: string): void {
    if (!this.#connection.stopped) this.#log.warn({ reason }, 'the link to the standby is down');
    this.#resync = undefined;
    if (this.#phase !== 'Fenced') this.#phase = 'Connecting';
    this.#stream.disconnected(reason);
    // What is in the stream is accounted for there; a resync that was not confirmed has no stream that could go on.
    if (this.#stream.exists && this.#baseConfirmed) return;
    channel.leaveUnsynced(this.#differences.missed);
    this.#break('the link was lost before the resync was confirmed');
  }

  #onRefused({ reason, message }: Refuse): void {
    const { fences, onFenced } = this.#options;
    this.#connection.lastError = `the standby refused: ${message}`;
    this.#connection.drop(this.#connection.lastError);
    if (reason !== 'StaleEpoch' || !fences) return;
    this.#phase = 'Fenced';
    onFenced(`a newer epoch exists (mirror ${this.#spec.name}: ${message})`);
  }

  async #onWelcome(channel: StandbyChannel, welcome: Welcome): Promise<void> {
    await this.#resyncOver;
    if (channel !== this.#connection.channel) return;
    if (this.#phase !== 'Handshaking') return channel.destroy('the standby sent a welcome out of turn');
    this.#features = welcome.features ?? [];
    if (!this.#features.includes('asynchronous'))
      return channel.destroy('the agent of the standby knows no asynchronous mirrors; upgrade it');
    const { baseId } = this.record;
    const at = baseId !== undefined && baseId === welcome.baseId ? this.#stream.rewind(welcome.stream) : undefined;
    if (baseId !== undefined && at) {
      const { id, position, announced } = at;
      this.#resuming = { standbyInOrder: welcome.consistent || announced };
      this.#log.info({ position, bytes: this.#stream.lagBytes }, 'the standby goes on where it was');
      return channel.startStream({ baseId, epoch: this.#identity.epoch, stream: { id, position } });
    }
    await this.#beginResync(channel, welcome);
  }

  async #beginResync(channel: StandbyChannel, welcome: Welcome): Promise<void> {
    const { newBaseId, persist } = this.#options;
    this.#resuming = undefined;
    this.#baseConfirmed = false;
    this.#break('the standby cannot go on where it was', 'keep the link');
    const { baseId, sameBase } = prepareBase(this.record, welcome, this.#differences, newBaseId);
    this.#log.info({ sameBase, remainingBytes: this.#differences.remainingBytes }, 'a resync begins');
    try {
      await persist();
    } catch (error) {
      return channel.destroy(`cannot write down what the standby is based on: ${errorMessage(error)}`);
    }
    if (channel === this.#connection.channel) channel.beginResync({ baseId, epoch: this.#identity.epoch });
  }

  #onAccepted(channel: StandbyChannel): void {
    if (this.#phase !== 'Handshaking') return channel.destroy('the standby accepted a resync out of turn');
    if (this.#resuming) return this.#goOn(channel, this.#resuming.standbyInOrder);
    this.#phase = 'Resyncing';
    const { base, localWritePending, limit } = this.#options;
    const resync = new Resync(this.#differences, base, channel, localWritePending, limit, this.#log);
    this.#resync = resync;
    this.#resyncOver = resync
      .run(() => this.#onCopied(channel))
      .catch((error: unknown) => channel.destroy(`resync: ${errorMessage(error)}`));
  }

  /** The stream goes on over this connection. */
  #goOn(channel: StandbyChannel, standbyInOrder: boolean): void {
    if (!this.#stream.exists) return channel.destroy('the stream has been given up');
    if (!standbyInOrder && this.#orderly) this.#tellInOrder(channel);
    this.#send(channel);
  }

  /** Nothing is left to copy at this moment: a stream begins. */
  #onCopied(channel: StandbyChannel): void {
    const { newBaseId } = this.#options;
    const { baseId } = this.record;
    assert(baseId !== undefined, 'a resync has a base');
    this.#resync = undefined;
    const id = newBaseId();
    this.#stream.begin(id);
    channel.endResync();
    channel.startStream({ baseId, epoch: this.#identity.epoch, stream: { id, position: 0 } });
    if (this.#orderly) this.#tellInOrder(channel);
    this.#send(channel);
  }

  #tellInOrder(channel: StandbyChannel): void {
    const { baseId } = this.record;
    if (baseId !== undefined) channel.inSync({ baseId, epoch: this.#identity.epoch });
  }

  #send(channel: StandbyChannel): void {
    const compressed = this.#spec.compression === 'zstd' && this.#features.includes('zstd');
    this.#phase = 'Streaming';
    const entries = this.#stream.sendOver(channel, compressed);
    this.#log.info({ entries, compressed }, 'the standby follows');
  }

  async #onConfirmed(channel: StandbyChannel): Promise<void> {
    this.record.scanned = true;
    try {
      await this.#options.persist();
      if (channel === this.#connection.channel) this.#baseConfirmed = true;
    } catch (error) {
      channel.destroy(`cannot write down that the standby is complete: ${errorMessage(error)}`);
    }
  }
}
