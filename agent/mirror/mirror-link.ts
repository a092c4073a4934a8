import { assert } from '../../common/assert.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { MirrorSpec, MirrorState as MirrorStateName, MirrorView } from '../api/contract/volumes.ts';
import type { Range } from '../core/range.ts';
import { type Acknowledgement, AcknowledgementQueue } from './acknowledgement.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import { barrierOutcome } from './barrier-outcome.ts';
import { Differences } from './differences.ts';
import { LinkConnection } from './link-connection.ts';
import type { Barrier, BarrierRecord, Refuse, Welcome } from './messages.ts';
import type { Mirror } from './mirror.ts';
import type { MirrorLinkOptions, MirrorRecord } from './mirror-link-options.ts';
import { initialMirrorState, type MirrorEffect, type MirrorEvent, type MirrorState, step } from './mirror-state.ts';
import { frameFlags, protocolVersion } from './protocol.ts';
import { markerForStandby } from './restore-marker.ts';
import { Resync } from './resync.ts';
import { prepareBase } from './resync-base.ts';
import type { StandbyChannel } from './standby-channel.ts';
import { VerificationRuns } from './verification-runs.ts';

/** Bytes sent and not held by the standby, above which writes that nobody waits for are recorded instead of sent. */
const skipWindowBytes = 32 * 1024 * 1024;

/**
 * The primary's end of the mirror to one standby: keeps a connection up, brings the standby in sync, forwards every
 * write, and knows what the standby misses.
 *
 * Invariants
 * - Every write of the guest is, until a sync of the standby that began after it is confirmed, in the record of
 *   differences, or among what the channel has sent and not seen synced.
 * - Whether a write may complete without the standby is decided by the state machine alone (mirror-state.ts).
 */
export class MirrorLink implements Mirror {
  readonly spec: MirrorSpec;
  readonly name: string;
  readonly record: MirrorRecord;
  readonly #options: MirrorLinkOptions;
  readonly #log: Log;
  readonly #differences: Differences;
  #state: MirrorState;
  readonly #connection: LinkConnection;
  #resync: Resync | undefined;
  /** One runs only while the mirror is in sync. */
  readonly #verifications: VerificationRuns;
  /** The last attempt is over, and what it had taken from the differences is back in there. */
  #resyncOver: Promise<void> = Promise.resolve();
  /** Waiting for a standby that is not there; complete when it is in sync again or no longer needed. */
  readonly #stranded = new AcknowledgementQueue();
  #features: readonly string[] = [];
  #effects: Promise<void> = Promise.resolve();
  /** It has been let go of, and is about to be taken from the volume. */
  #released = false;
  readonly #questions: ArbiterQuestions;
  /** When it was last heard of while every write went to it. */
  #lastStreamingMs: number;

  constructor(options: MirrorLinkOptions) {
    this.spec = options.spec;
    this.name = options.record.name;
    this.record = options.record;
    this.#options = options;
    this.#log = options.log.child({ mirror: this.name });
    this.#differences = new Differences(options.identity.size);
    this.#state = initialMirrorState(options.record.needed);
    for (const range of options.suspect) this.#differences.suspect.add(range);
    this.#lastStreamingMs = options.clock.monotonicMs();
    this.#verifications = new VerificationRuns(this.name, { ...options, log: this.#log });
    this.#connection = this.#makeConnection();
    this.#questions = new ArbiterQuestions({
      ...options,
      mirror: this.name,
      retryMs: options.timing.arbiterRetryMs,
      stopped: () => this.#connection.stopped,
      answered: (question, answer) => this.#event({ type: 'arbiter', question, answer }),
    });
  }

  start(): void {
    this.#connection.start();
  }

  async stop(): Promise<void> {
    this.#connection.stop();
    await this.#effects;
  }

  async remove(): Promise<void> {
    await this.stop();
  }

  async release(epoch: number): Promise<void> {
    if (this.#state.needed) {
      try {
        await this.#questions.drop(epoch);
      } catch (error) {
        if (errorCode(error) === 'Fenced')
          this.#options.onFenced('a newer epoch exists (the arbiter refused to drop a mirror)');
        throw error;
      }
    }
    // Nothing completes without it before it has ceased to count.
    this.#released = true;
    this.#channel?.strand(this.#stranded);
    this.#stranded.completeAll();
  }

  /** Another link to the same standby takes this one's place: what waits here waits there. */
  handOver(next: MirrorLink): void {
    this.#channel?.strand(this.#stranded);
    this.#stranded.moveTo(next.#stranded);
    if (!next.needed) next.#stranded.completeAll();
  }

  abandon(error: UnderstudyError): void {
    this.#channel?.strand(this.#stranded);
    this.#stranded.failAll(error);
  }

  get epoch(): number {
    return this.#options.identity.epoch;
  }

  limitResync(bytesPerSecond: number | undefined): void {
    this.#options.limit.change(bytesPerSecond);
  }

  get needed(): boolean {
    return this.#state.needed;
  }

  get suspends(): boolean {
    return this.#state.needed && !this.#streaming;
  }

  get inSync(): boolean {
    return this.#state.phase === 'InSync' && !this.#released;
  }

  /** Every write goes to the standby. */
  get #streaming(): boolean {
    return this.#state.phase === 'InSync' || this.#state.phase === 'Confirming';
  }

  view(): MirrorView {
    const { phase } = this.#state;
    const { limit } = this.#options;
    const verification = this.#verifications.view();
    const resyncing = phase === 'Resyncing' || phase === 'Confirming';
    const dirtyBytes = this.#differences.remainingBytes;
    const copiedBytes = this.#differences.copiedBytes;
    return {
      name: this.name,
      address: this.spec.address,
      mode: this.spec.mode,
      state: this.#stateName(),
      dirtyBytes,
      lagBytes: this.#channel?.inFlightBytes ?? 0,
      ...(resyncing ? { resync: { copiedBytes, totalBytes: copiedBytes + dirtyBytes } } : {}),
      ...(limit.bytesPerSecond === undefined ? {} : { resyncBytesPerSecond: limit.bytesPerSecond }),
      ...(verification ? { verification } : {}),
      ...(this.#connection.lastError && phase !== 'InSync' ? { lastError: this.#connection.lastError } : {}),
    };
  }

  #stateName(): MirrorStateName {
    if (this.#released) return 'Outdated';
    switch (this.#state.phase) {
      case 'InSync':
      case 'Fenced':
        return this.#state.phase;
      case 'Resyncing':
      case 'Confirming':
        return 'Resyncing';
      case 'Handshaking':
        return 'Connecting';
      default:
        return this.#state.outdated && this.record.baseId !== undefined ? 'Outdated' : 'Connecting';
    }
  }

  // --- The guest's operations -----------------------------------------------------------------------------------

  forwardWrite(offset: number, data: Uint8Array, fua: boolean, acknowledgement: Acknowledgement | undefined): void {
    const range = { offset, length: data.length };
    const channel = this.#channelFor(range);
    if (!channel) return this.#miss(range, acknowledgement);
    // What nobody waits for is complete, and its buffer the caller's again, before it has been sent.
    channel.write(range, acknowledgement ? data : Buffer.from(data), fua ? frameFlags.fua : 0);
    if (acknowledgement) awaitStandby(channel, fua, acknowledgement);
  }

  forwardZeroes(
    range: Range,
    keepAllocated: boolean,
    fua: boolean,
    acknowledgement: Acknowledgement | undefined,
  ): void {
    const channel = this.#channelFor(range);
    if (!channel) return this.#miss(range, acknowledgement);
    channel.zero(range, (fua ? frameFlags.fua : 0) | (keepAllocated ? frameFlags.keepAllocated : 0));
    if (acknowledgement) awaitStandby(channel, fua, acknowledgement);
  }

  flush(acknowledgement: Acknowledgement | undefined): void {
    if (!acknowledgement) return;
    if (this.#channel && this.#streaming) this.#channel.awaitSynced(acknowledgement);
    else this.#stranded.add(0, acknowledgement);
  }

  differs(range: Range): void {
    this.#differences.missed.add(range);
    this.#drop('the local device failed a write that the standby has got');
  }

  /** Sends a barrier; resolves with what the standby made of it. @throws NotReady while the mirror is not in sync. */
  async barrier(barrier: Barrier): Promise<BarrierRecord> {
    const channel = this.#channelInSync('a snapshot of it can be taken');
    if (barrier.via && !this.#features.includes('cascade'))
      throw new UnderstudyError('Invalid', `the agent of mirror ${this.name} knows no cascades; upgrade it`);
    return barrierOutcome(await channel.barrier(barrier));
  }

  /** Flushes wait for a standby that is in sync. */
  synced(): Promise<void> {
    return Promise.resolve();
  }

  /** Only a standby has a source in disorder, and its mirrors are asynchronous. */
  announce(): void {}

  /**
   * Begins to compare both copies while they are in use; `view` says how far it is, and what it has found.
   * @throws UnderstudyError NotReady while the mirror is not in sync, Conflict while one is under way
   */
  verify(request: VerificationRequest): void {
    this.#verifications.begin(this.#channelInSync('it can be verified'), request, (ranges) => this.#repair(ranges));
  }

  stopVerification(): void {
    this.#verifications.stop('it has been stopped on request');
  }

  /** Gives the link up for another one, whose resync copies what was found to differ. */
  async #repair(ranges: readonly Range[]): Promise<void> {
    if (this.#connection.stopped) return;
    for (const range of ranges) this.#differences.missed.add(range);
    this.#drop('a verification found differences, which are to be copied again');
    await this.#options.markSuspect(ranges);
  }

  /** @throws UnderstudyError NotReady */
  #channelInSync(what: string): StandbyChannel {
    if (this.#channel && this.#state.phase === 'InSync') return this.#channel;
    const { state, lastError } = this.view();
    throw new UnderstudyError(
      'NotReady',
      `mirror ${this.name} is not in sync (${state})${lastError ? `: ${lastError}` : ''}; ${what} when it is InSync`,
    );
  }

  /** The channel, if a write into the range is to be sent now. */
  #channelFor(range: Range): StandbyChannel | undefined {
    if (this.#streaming) {
      this.#verifications.written(range);
      return this.#channel;
    }
    if (this.#state.phase !== 'Resyncing' || !this.#channel) return undefined;
    this.#resync?.written(range);
    return this.#channel.inFlightBytes < skipWindowBytes ? this.#channel : undefined;
  }

  #miss(range: Range, acknowledgement: Acknowledgement | undefined): void {
    this.#differences.missed.add(range);
    if (acknowledgement) this.#stranded.add(0, acknowledgement);
  }

  // --- The connection -------------------------------------------------------------------------------------------

  get #channel(): StandbyChannel | undefined {
    return this.#connection.channel;
  }

  #makeConnection(): LinkConnection {
    const { connect, identity, clock, timing } = this.#options;
    return new LinkConnection(this.spec.address, {
      volume: identity.volume,
      connect,
      clock,
      timing,
      hello: (generation) => ({ protocol: protocolVersion, ...identity, mirror: this.name, generation }),
      wanted: () => this.#state.phase !== 'Fenced',
      connected: () => this.#event({ type: 'connected' }),
      disconnected: (channel, reason) => this.#disconnected(channel, reason),
      events: (channel) => ({
        heard: () => {
          if (this.#streaming) this.#lastStreamingMs = clock.monotonicMs();
        },
        welcome: (welcome) => void this.#onWelcome(channel, welcome),
        refused: (refuse) => this.#onRefused(refuse),
        resyncAccepted: () => this.#onResyncAccepted(channel),
        confirmed: () => this.#onConfirmed(),
      }),
      tick: (nowMs) => this.#tick(nowMs),
    });
  }

  #disconnected(channel: StandbyChannel, reason: string): void {
    this.#resync = undefined;
    if (!this.#connection.stopped) this.#log.warn({ reason }, 'the link to the standby is down');
    channel.leaveUnsynced(this.#differences.missed);
    channel.strand(this.#stranded);
    if (!this.#state.needed) this.#stranded.completeAll();
    if (this.#state.phase !== 'Connecting') this.#event({ type: 'disconnected' });
  }

  #drop(reason: string): void {
    this.#connection.drop(reason);
  }

  /** Watches over what the standby owes. */
  #tick(nowMs: number): void {
    if (this.#connection.isOverdue(nowMs)) return this.#event({ type: 'overdue' });
    const away = nowMs - this.#lastStreamingMs >= this.#options.timing.acknowledgementTimeoutMs;
    if (!this.#streaming && away) this.#event({ type: 'away' });
  }

  // --- What the standby says ------------------------------------------------------------------------------------

  async #onWelcome(channel: StandbyChannel, welcome: Welcome): Promise<void> {
    await this.#resyncOver;
    if (channel !== this.#channel) return;
    if (this.#state.phase !== 'Handshaking') return channel.destroy('the standby sent a welcome out of turn');
    this.#features = welcome.features ?? [];
    const { baseId, sameBase } = prepareBase(this.record, welcome, this.#differences, this.#options.newBaseId);
    this.#log.info({ sameBase, remainingBytes: this.#differences.remainingBytes }, 'standby connected');
    try {
      await this.#options.persist();
    } catch (error) {
      return channel.destroy(`cannot write down what the standby is based on: ${errorMessage(error)}`);
    }
    if (channel === this.#channel) channel.beginResync({ baseId, epoch: this.#options.identity.epoch });
  }

  #onRefused({ reason, message }: Refuse): void {
    this.#connection.lastError = `the standby refused: ${message}`;
    this.#drop(this.#connection.lastError);
    if (reason === 'StaleEpoch') this.#event({ type: 'staleEpoch' });
  }

  #onResyncAccepted(channel: StandbyChannel): void {
    if (this.#state.phase !== 'Handshaking') return channel.destroy('the standby accepted a resync out of turn');
    this.#event({ type: 'resyncAccepted' });
    const { base, localWritePending, limit } = this.#options;
    const resync = new Resync(this.#differences, base, channel, localWritePending, limit, this.#log);
    this.#resync = resync;
    this.#resyncOver = resync
      .run(() => this.#event({ type: 'copied' }))
      .catch((error: unknown) => channel.destroy(`resync: ${errorMessage(error)}`));
  }

  #onConfirmed(): void {
    // Only now is what the scan has copied on the standby's stable storage; a restart of both must not forget it before.
    if (this.#state.phase === 'Confirming') this.record.scanned = true;
    this.#event({ type: 'confirmed' });
  }

  // --- The state machine ----------------------------------------------------------------------------------------

  #event(event: MirrorEvent): void {
    const before = this.#state;
    const { state, effects } = step(before, event);
    this.#state = state;
    this.record.needed = state.needed;
    if (state.phase !== 'InSync') this.#verifications.stop('the mirror is not in sync any more');
    if (state.phase !== before.phase) {
      this.#log.info({ from: before.phase, to: state.phase, needed: state.needed }, 'mirror');
    }
    const channel = this.#channel;
    if (effects.length > 0) this.#effects = this.#effects.then(() => this.#perform(effects, channel));
    if (state.phase !== before.phase || state.needed !== before.needed) this.#options.onChange();
  }

  /** Carries effects out in order; what goes to the standby goes to the connection that it was decided for. */
  async #perform(effects: readonly MirrorEffect[], channel: StandbyChannel | undefined): Promise<void> {
    for (const effect of effects) {
      try {
        await this.#effect(effect, channel);
      } catch (error) {
        this.#log.error({ effect, error: errorMessage(error) }, 'could not act on a change of the mirror');
        this.#drop(errorMessage(error));
        return;
      }
    }
  }

  async #effect(effect: MirrorEffect, channel: StandbyChannel | undefined): Promise<void> {
    switch (effect) {
      case 'persist':
        return this.#options.persist();
      case 'dropLink':
        return channel?.destroy(this.#whyDropped());
      case 'askOutdated':
        return void this.#questions.ask('outdated');
      case 'askInSync':
        return void this.#questions.ask('inSync');
      case 'retryQuestion':
        return this.#askAgainLater();
      case 'sendResyncEnd':
        return channel?.endResync();
      case 'sendInSync':
        return this.#sendInSync(channel);
      case 'release':
        if (!this.suspends) this.#stranded.completeAll();
        return this.#options.onChange();
      case 'fence':
        return this.#options.onFenced(
          `a newer epoch exists (mirror ${this.name}: ${this.#connection.lastError ?? 'the arbiter refused'})`,
        );
    }
  }

  #whyDropped(): string {
    if (this.#state.phase === 'Fenced') return 'a newer epoch exists';
    return `no answer from the standby for ${this.#options.timing.acknowledgementTimeoutMs} ms`;
  }

  #sendInSync(channel: StandbyChannel | undefined): void {
    const { baseId } = this.record;
    assert(baseId !== undefined, 'a mirror in sync has a base');
    if (channel === this.#channel) this.#resync = undefined;
    const restore = this.#options.restore?.();
    channel?.inSync({
      baseId,
      epoch: this.#options.identity.epoch,
      ...(restore === undefined ? {} : { restore: markerForStandby(restore, this.name) ?? restore }),
    });
  }

  #askAgainLater(): void {
    const { asking } = this.#state;
    if (asking !== 'nothing') this.#questions.askAgainLater(asking, () => this.#state.asking === asking);
  }
}

function awaitStandby(channel: StandbyChannel, fua: boolean, acknowledgement: Acknowledgement): void {
  if (fua) channel.awaitSynced(acknowledgement);
  else channel.awaitHeld(acknowledgement);
}
