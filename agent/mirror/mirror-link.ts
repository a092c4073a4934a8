import { assert } from '../../common/assert.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { MirrorState as MirrorStateName, MirrorView } from '../api/contract/volumes.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import { type Acknowledgement, AcknowledgementQueue } from './acknowledgement.ts';
import type { Arbiter } from './arbiter.ts';
import { Differences, missedBlockBytes } from './differences.ts';
import { type Frame, FrameParser, HeaderEncoder } from './frame-codec.ts';
import {
  type Barrier,
  type BarrierDone,
  type BarrierRecord,
  barrierDoneSchema,
  decodeJson,
  encodeJson,
  failedSchema,
  type Refuse,
  refuseSchema,
  type Welcome,
  welcomeSchema,
} from './messages.ts';
import { initialMirrorState, type MirrorEffect, type MirrorEvent, type MirrorState, step } from './mirror-state.ts';
import { frameFlags, frameTypes, protocolVersion } from './protocol.ts';
import { Resync } from './resync.ts';
import { UnsyncedMap } from './unsynced-map.ts';

/** Opens a connection to the mirror listener of a standby's agent, for one volume. */
export type Connector = (address: string, volume: string) => Promise<Connection>;

export interface VolumeIdentity {
  readonly volume: string;
  readonly uid: string | undefined;
  readonly epoch: number;
  readonly size: number;
  readonly blockSize: number;
}

export interface MirrorTiming {
  /** How long a standby may owe an answer before it counts as lost. */
  readonly acknowledgementTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly reconnectMs: number;
  readonly arbiterRetryMs: number;
}

export const defaultTiming: MirrorTiming = {
  acknowledgementTimeoutMs: 10_000,
  heartbeatMs: 2_000,
  reconnectMs: 250,
  arbiterRetryMs: 1_000,
};

/** What a primary keeps on disk about one mirror. */
export interface MirrorRecord {
  readonly name: string;
  /** The resync on which the standby's content is based; without it, everything may differ. */
  baseId?: string | undefined;
  /** The scan over the whole volume that this base began with has been finished. */
  scanned: boolean;
  /** See MirrorState.needed. */
  needed: boolean;
}

export interface MirrorLinkOptions {
  readonly identity: VolumeIdentity;
  readonly address: string;
  readonly mode: 'synchronous' | 'asynchronous';
  readonly record: MirrorRecord;
  readonly base: BlockDevice;
  /** Regions that may differ because the primary stopped in the middle of writes. */
  readonly suspect: Iterable<Range>;
  readonly connect: Connector;
  readonly arbiter: Arbiter;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  /** A name for a new base, unlike any other. */
  readonly newBaseId: () => string;
  readonly localWritePending: (range: Range) => boolean;
  /** Writes the records of all mirrors down; durable when it resolves. */
  readonly persist: () => Promise<void>;
  /** The standby knows a newer epoch, or the arbiter does. */
  readonly onFenced: (message: string) => void;
  /** Whether writes have to wait for this standby may have changed. */
  readonly onChange: () => void;
}

/** Bytes sent and not held by the standby, above which a resync pauses and writes that nobody waits for are not sent. */
const resyncWindowBytes = 8 * 1024 * 1024;
const skipWindowBytes = 32 * 1024 * 1024;

/**
 * The primary's end of the mirror to one standby: keeps a connection up, brings the standby in sync, forwards every
 * write, and knows what the standby misses.
 *
 * Invariants
 * - Every write of the guest is, until a sync of the standby that began after it is confirmed, in exactly one of: the
 *   record of differences, or what was sent and not synced.
 * - What depends on answers of the standby belongs to one connection; when that is lost, nothing of it is carried over
 *   into the next.
 */
export class MirrorLink {
  readonly name: string;
  readonly record: MirrorRecord;
  readonly #options: MirrorLinkOptions;
  readonly #log: Log;
  readonly #differences: Differences;
  readonly #unsynced: UnsyncedMap;
  readonly #headers = new HeaderEncoder();
  #state: MirrorState;
  #stopped = false;
  #lastError: string | undefined;

  // Of the connection that is up:
  #connection: Connection | undefined;
  #generation = 0;
  #sequence = 0;
  #sentBytes = 0;
  #heldBytes = 0;
  #resync: Resync | undefined;
  #held = new AcknowledgementQueue();
  #synced = new AcknowledgementQueue();
  #barriers = new Map<string, { resolve: (done: BarrierDone) => void; reject: (error: unknown) => void }>();
  #digests: { resolve: (digests: Buffer) => void; reject: (error: unknown) => void }[] = [];
  #roomWaiters: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  #confirmSequence: number | undefined;

  /** Waiting for a standby that is not there; complete when it is in sync again or no longer needed. */
  #stranded = new AcknowledgementQueue();
  #effects: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  #lastHeardMs: number;
  #connectedMs = 0;
  #lastPingMs: number;
  #connecting = false;

  constructor(options: MirrorLinkOptions) {
    this.name = options.record.name;
    this.record = options.record;
    this.#options = options;
    this.#log = options.log.child({ mirror: this.name });
    this.#differences = new Differences(options.identity.size);
    this.#unsynced = new UnsyncedMap(missedBlockBytes);
    this.#state = initialMirrorState(options.record.needed);
    for (const range of options.suspect) this.#differences.suspect.add(range);
    this.#lastHeardMs = options.clock.monotonicMs();
    this.#lastPingMs = this.#lastHeardMs;
  }

  start(): void {
    this.#tick();
    void this.#connect();
  }

  /** Ends the link. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#connection?.destroy();
    await this.#effects;
  }

  /** The mirror is no longer part of the volume: what waits for the standby need not wait any more. */
  release(): void {
    for (const queue of [this.#held, this.#synced, this.#stranded]) queue.completeAll();
  }

  /** The volume fails: what waits for the standby fails with it. */
  abandon(error: UnderstudyError): void {
    for (const queue of [this.#held, this.#synced, this.#stranded]) queue.failAll(error);
  }

  /** Writes may not complete without this standby. */
  get needed(): boolean {
    return this.#state.needed;
  }

  /** It is needed and cannot answer now: writes wait. */
  get suspends(): boolean {
    return this.#state.needed && !this.#streaming;
  }

  get inSync(): boolean {
    return this.#state.phase === 'InSync';
  }

  get #streaming(): boolean {
    return this.#state.phase === 'InSync' || this.#state.phase === 'Confirming';
  }

  get address(): string {
    return this.#options.address;
  }

  get mode(): 'synchronous' | 'asynchronous' {
    return this.#options.mode;
  }

  view(): MirrorView {
    const { phase } = this.#state;
    const resyncing = phase === 'Resyncing' || phase === 'Confirming';
    const dirtyBytes = this.#differences.remainingBytes;
    const copiedBytes = this.#differences.copiedBytes;
    return {
      name: this.name,
      address: this.#options.address,
      mode: this.#options.mode,
      state: this.#stateName(),
      dirtyBytes,
      lagBytes: this.#connection ? this.#sentBytes - this.#heldBytes : 0,
      ...(resyncing ? { resync: { copiedBytes, totalBytes: copiedBytes + dirtyBytes } } : {}),
      ...(this.#lastError && phase !== 'InSync' ? { lastError: this.#lastError } : {}),
    };
  }

  #stateName(): MirrorStateName {
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

  /** Forwards a write that has been given to the local device. `acknowledgement` is there while the link is needed. */
  forwardWrite(offset: number, data: Uint8Array, fua: boolean, acknowledgement: Acknowledgement | undefined): void {
    const range = { offset, length: data.length };
    if (!this.#mayForward(range)) return this.#miss(range, acknowledgement);
    // What nobody waits for is complete, and its buffer the caller's again, before it has been sent.
    const payload = acknowledgement ? data : Buffer.from(data);
    this.#sendChange(frameTypes.write, fua ? frameFlags.fua : 0, range, payload);
    this.#await(fua, acknowledgement);
  }

  forwardZeroes(
    range: Range,
    keepAllocated: boolean,
    fua: boolean,
    acknowledgement: Acknowledgement | undefined,
  ): void {
    if (!this.#mayForward(range)) return this.#miss(range, acknowledgement);
    const flags = (fua ? frameFlags.fua : 0) | (keepAllocated ? frameFlags.keepAllocated : 0);
    this.#sendChange(frameTypes.zero, flags, range, undefined);
    this.#await(fua, acknowledgement);
  }

  /** Completes `acknowledgement` when everything sent before is applied and on stable storage at the standby. */
  flush(acknowledgement: Acknowledgement): void {
    if (!this.#streaming) this.#stranded.add(0, acknowledgement);
    else this.#synced.add(this.#sendFlush(), acknowledgement);
  }

  /** A range of which the local device may hold something else than what was sent. */
  differs(range: Range): void {
    this.#differences.missed.add(range);
    this.#drop('the local device failed a write that the standby has got');
  }

  /** Sends a barrier; resolves with what the standby made of it. @throws NotReady while the mirror is not in sync. */
  barrier(barrier: Barrier): Promise<BarrierRecord> {
    if (this.#state.phase !== 'InSync') {
      const view = this.view();
      const why = view.lastError ? `: ${view.lastError}` : '';
      return Promise.reject(
        new UnderstudyError(
          'NotReady',
          `mirror ${this.name} is not in sync (${view.state})${why}; a snapshot of it can be taken when it is InSync`,
        ),
      );
    }
    const done = new Promise<BarrierDone>((resolve, reject) =>
      this.#barriers.set(barrier.attempt, { resolve, reject }),
    );
    this.#sequence += 1;
    this.#sendJson(frameTypes.barrier, barrier, this.#sequence);
    return done.then(({ record, error }) => {
      if (error) throw new UnderstudyError(knownCode(error.code), error.message);
      if (!record)
        throw new UnderstudyError('Protocol', `the standby took snapshot ${barrier.snapshot} and did not say when`);
      return record;
    });
  }

  #mayForward(range: Range): boolean {
    const { phase } = this.#state;
    if (this.#streaming) return true;
    if (phase !== 'Resyncing') return false;
    this.#resync?.written(range);
    return this.#sentBytes - this.#heldBytes < skipWindowBytes;
  }

  #miss(range: Range, acknowledgement: Acknowledgement | undefined): void {
    this.#differences.missed.add(range);
    if (acknowledgement) this.#stranded.add(0, acknowledgement);
  }

  #await(fua: boolean, acknowledgement: Acknowledgement | undefined): void {
    if (!acknowledgement) return;
    if (fua) this.#synced.add(this.#sendFlush(), acknowledgement);
    else this.#held.add(this.#sequence, acknowledgement);
  }

  // --- Sending --------------------------------------------------------------------------------------------------

  #sendChange(
    type: typeof frameTypes.write | typeof frameTypes.zero,
    flags: number,
    range: Range,
    payload: Uint8Array | undefined,
  ): void {
    this.#sequence += 1;
    this.#unsynced.sent(range);
    const length = payload?.length ?? 0;
    const header = this.#headers.encode(
      type,
      flags,
      length,
      this.#sequence,
      range.offset,
      Math.min(range.length, 0xffffffff),
    );
    if (payload) this.#connection?.send(header, payload);
    else this.#connection?.send(header);
    this.#sentBytes += header.length + length;
  }

  #sendFlush(): number {
    this.#sequence += 1;
    this.#connection?.send(this.#headers.encode(frameTypes.flush, 0, 0, this.#sequence));
    this.#unsynced.flushSent(this.#sequence);
    return this.#sequence;
  }

  #sendJson(
    type:
      | typeof frameTypes.hello
      | typeof frameTypes.barrier
      | typeof frameTypes.resyncBegin
      | typeof frameTypes.inSync,
    message: object,
    sequence = 0,
  ): void {
    const payload = encodeJson(message);
    this.#connection?.send(this.#headers.encode(type, 0, payload.length, sequence), payload);
  }

  // --- The connection -------------------------------------------------------------------------------------------

  async #connect(): Promise<void> {
    if (this.#stopped || this.#connecting || this.#connection || this.#state.phase === 'Fenced') return;
    this.#connecting = true;
    const { connect, address, identity, clock, timing } = this.#options;
    try {
      const connection = await connect(address, identity.volume);
      this.#connecting = false;
      if (this.#stopped) connection.destroy();
      else this.#connected(connection);
    } catch (error) {
      this.#connecting = false;
      this.#lastError = `cannot connect to ${address}: ${errorMessage(error)}`;
      if (!this.#stopped) clock.after(timing.reconnectMs, () => void this.#connect());
    }
  }

  #connected(connection: Connection): void {
    this.#connection = connection;
    this.#generation += 1;
    this.#sequence = 0;
    this.#sentBytes = 0;
    this.#heldBytes = 0;
    this.#confirmSequence = undefined;
    this.#lastError = undefined;
    this.#connectedMs = this.#options.clock.monotonicMs();
    this.#event({ type: 'connected' });
    const parser = new FrameParser();
    connection.handle({
      received: (bytes) => this.#received(connection, parser, bytes),
      drained: () => this.#roomChanged(),
      closed: (reason) => this.#disconnected(connection, reason),
    });
    const { identity } = this.#options;
    this.#sendJson(frameTypes.hello, {
      protocol: protocolVersion,
      ...identity,
      mirror: this.name,
      generation: this.#generation,
    });
  }

  #received(connection: Connection, parser: FrameParser, bytes: Uint8Array): void {
    if (connection !== this.#connection) return;
    this.#lastHeardMs = this.#options.clock.monotonicMs();
    try {
      for (const frame of parser.push(bytes)) {
        this.#frame(frame);
        if (connection !== this.#connection) return;
      }
    } catch (error) {
      this.#drop(errorMessage(error));
    }
  }

  #disconnected(connection: Connection, reason: Error | undefined): void {
    if (connection !== this.#connection) return;
    const { clock, timing } = this.#options;
    this.#connection = undefined;
    const message =
      this.#lastError ?? (reason ? `the link was lost: ${reason.message}` : 'the standby closed the link');
    const error = new UnderstudyError('Unavailable', `mirror ${this.name}: ${message}`);
    this.#lastError = message;
    this.#log.warn({ reason: message }, 'the link to the standby is down');
    this.#unsynced.moveTo(this.#differences.missed);
    this.#strand();
    this.#resync = undefined;
    for (const barrier of this.#barriers.values()) barrier.reject(error);
    this.#barriers.clear();
    for (const waiter of [...this.#digests, ...this.#roomWaiters]) waiter.reject(error);
    this.#digests = [];
    this.#roomWaiters = [];
    if (this.#state.phase !== 'Connecting') this.#event({ type: 'disconnected' });
    if (!this.#stopped) clock.after(timing.reconnectMs, () => void this.#connect());
  }

  /** What waited for answers on the lost connection now waits for the standby's return, or for its being given up. */
  #strand(): void {
    this.#held.moveTo(this.#stranded);
    this.#synced.moveTo(this.#stranded);
    if (!this.#state.needed) this.#stranded.completeAll();
  }

  #drop(reason: string): void {
    this.#lastError = reason;
    this.#connection?.destroy(new Error(reason));
  }

  /** Watches over what the standby owes, and keeps an idle link busy. */
  #tick(): void {
    const { clock, timing } = this.#options;
    this.#timer = clock.after(Math.min(timing.heartbeatMs, timing.acknowledgementTimeoutMs) / 2, () => this.#tick());
    const now = clock.monotonicMs();
    if (now - this.#lastHeardMs >= timing.acknowledgementTimeoutMs) {
      const hangs = this.#connection && now - this.#connectedMs >= timing.acknowledgementTimeoutMs;
      if (hangs) this.#lastError = `no answer from the standby for ${timing.acknowledgementTimeoutMs} ms`;
      this.#event({ type: hangs ? 'overdue' : 'away' });
    }
    if (!this.#connection || now - this.#lastPingMs < timing.heartbeatMs) return;
    this.#lastPingMs = now;
    this.#connection.send(this.#headers.encode(frameTypes.ping, 0, 0));
  }

  // --- Frames of the standby ------------------------------------------------------------------------------------

  #frame(frame: Frame): void {
    switch (frame.type) {
      case frameTypes.held:
        return this.#onHeld(frame);
      case frameTypes.synced:
        this.#unsynced.synced(frame.sequence);
        return this.#synced.complete(frame.sequence);
      case frameTypes.welcome:
        return void this.#onWelcome(decodeJson('welcome', welcomeSchema, frame.payload));
      case frameTypes.refuse:
        return this.#onRefuse(decodeJson('refusal', refuseSchema, frame.payload));
      case frameTypes.resyncAccepted:
        return this.#onResyncAccepted();
      case frameTypes.digests:
        return this.#digests.shift()?.resolve(frame.payload);
      case frameTypes.confirmed:
        if (frame.sequence === this.#confirmSequence) this.#event({ type: 'confirmed' });
        return;
      case frameTypes.barrierDone:
        return this.#onBarrierDone(decodeJson('barrier answer', barrierDoneSchema, frame.payload));
      case frameTypes.failed: {
        const { message } = decodeJson('failure', failedSchema, frame.payload);
        return this.#drop(`the standby failed: ${message}`);
      }
      case frameTypes.pong:
        return;
      default:
        throw new UnderstudyError(
          'Protocol',
          `the standby sent a frame of type ${frame.type}, which only a primary sends`,
        );
    }
  }

  #onHeld({ sequence, offset }: Frame): void {
    if (sequence > this.#sequence || offset > this.#sentBytes) {
      throw new UnderstudyError(
        'Protocol',
        `the standby says it holds ${sequence}, but only ${this.#sequence} was sent`,
      );
    }
    this.#heldBytes = offset;
    this.#held.complete(sequence);
    this.#roomChanged();
  }

  async #onWelcome(welcome: Welcome): Promise<void> {
    if (this.#state.phase !== 'Handshaking') return this.#drop('a welcome out of turn');
    const connection = this.#connection;
    const sameBase = this.record.baseId !== undefined && this.record.baseId === welcome.baseId;
    if (!sameBase) {
      this.record.baseId = this.#options.newBaseId();
      this.record.scanned = false;
      this.#differences.startScan(welcome.blank);
    } else if (!this.record.scanned && !this.#differences.scanning) {
      this.#differences.startScan(false);
    }
    this.#log.info(
      { sameBase, blank: welcome.blank, remainingBytes: this.#differences.remainingBytes },
      'standby connected',
    );
    try {
      await this.#options.persist();
    } catch (error) {
      return this.#drop(`cannot write down what the standby is based on: ${errorMessage(error)}`);
    }
    if (connection !== this.#connection) return;
    this.#sendJson(frameTypes.resyncBegin, { baseId: this.record.baseId, epoch: this.#options.identity.epoch });
  }

  #onRefuse(refuse: Refuse): void {
    this.#drop(`the standby refused: ${refuse.message}`);
    if (refuse.reason === 'StaleEpoch') this.#event({ type: 'staleEpoch' });
  }

  #onResyncAccepted(): void {
    this.#event({ type: 'resyncAccepted' });
    const resync = new Resync(this.#differences, this.#options.base, this.#resyncLink(), this.#log);
    this.#resync = resync;
    resync
      .run(() => this.#event({ type: 'copied' }))
      .catch((error: unknown) => {
        if (this.#resync === resync) this.#drop(`resync: ${errorMessage(error)}`);
      });
  }

  #onBarrierDone(done: BarrierDone): void {
    this.#barriers.get(done.attempt)?.resolve(done);
    this.#barriers.delete(done.attempt);
  }

  // --- What a resync needs --------------------------------------------------------------------------------------

  #resyncLink() {
    return {
      sendData: (range: Range, content: Buffer) =>
        this.#sendChange(frameTypes.write, frameFlags.resync, range, content),
      sendZeroes: (range: Range, keepAllocated: boolean) => this.#sendZeroes(range, keepAllocated),
      requestDigests: (range: Range) => this.#requestDigests(range),
      room: () => this.#room(),
      localWritePending: this.#options.localWritePending,
    };
  }

  /** In pieces whose length fits the frame. */
  #sendZeroes({ offset, length }: Range, keepAllocated: boolean): void {
    const most = 1024 * 1024 * 1024;
    const flags = frameFlags.resync | (keepAllocated ? frameFlags.keepAllocated : 0);
    for (let sent = 0; sent < length; sent += most) {
      this.#sendChange(
        frameTypes.zero,
        flags,
        { offset: offset + sent, length: Math.min(most, length - sent) },
        undefined,
      );
    }
  }

  #requestDigests({ offset, length }: Range): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#digests.push({ resolve, reject });
      this.#sequence += 1;
      this.#connection?.send(this.#headers.encode(frameTypes.digestRequest, 0, 0, this.#sequence, offset, length));
      // Reading and digesting cost the standby as much as the data would.
      this.#sentBytes += length;
    });
  }

  #room(): Promise<void> {
    if (!this.#connection) {
      return Promise.reject(new UnderstudyError('Unavailable', `the link to ${this.name} is down`));
    }
    return new Promise((resolve, reject) => {
      this.#roomWaiters.push({ resolve, reject });
      // Not at once even if there is room: a resync gives way to the guest after each piece.
      setImmediate(() => this.#roomChanged());
    });
  }

  #roomChanged(): void {
    if (this.#roomWaiters.length === 0 || this.#sentBytes - this.#heldBytes > resyncWindowBytes) return;
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const waiter of waiters) waiter.resolve();
  }

  // --- The state machine ----------------------------------------------------------------------------------------

  #event(event: MirrorEvent): void {
    const before = this.#state;
    const { state, effects } = step(before, event);
    this.#state = state;
    this.record.needed = state.needed;
    if (state.phase !== before.phase)
      this.#log.info({ from: before.phase, to: state.phase, needed: state.needed }, 'mirror');
    const generation = this.#generation;
    if (effects.length > 0) this.#effects = this.#effects.then(() => this.#perform(effects, generation));
    if (state.phase !== before.phase || state.needed !== before.needed) this.#options.onChange();
  }

  /** Carries effects out in order; what goes to the standby is dropped if its connection is no longer the same. */
  async #perform(effects: readonly MirrorEffect[], generation: number): Promise<void> {
    for (const effect of effects) {
      try {
        await this.#effect(effect, generation === this.#generation);
      } catch (error) {
        this.#log.error({ effect, error: errorMessage(error) }, 'could not act on a change of the mirror');
        this.#drop(errorMessage(error));
        return;
      }
    }
  }

  async #effect(effect: MirrorEffect, sameConnection: boolean): Promise<void> {
    switch (effect) {
      case 'persist':
        return this.#options.persist();
      case 'dropLink':
        if (sameConnection) this.#connection?.destroy(new Error(this.#lastError ?? 'dropped'));
        return;
      case 'askOutdated':
        return void this.#ask('outdated');
      case 'askInSync':
        return void this.#ask('inSync');
      case 'retryQuestion': {
        const { asking } = this.#state;
        this.#options.clock.after(this.#options.timing.arbiterRetryMs, () => {
          if (asking !== 'nothing' && this.#state.asking === asking) void this.#ask(asking);
        });
        return;
      }
      case 'sendResyncEnd':
        if (sameConnection) this.#sendResyncEnd();
        return;
      case 'sendInSync':
        if (sameConnection) this.#sendInSync();
        return;
      case 'release':
        if (!this.suspends) this.#stranded.completeAll();
        return this.#options.onChange();
      case 'fence':
        return this.#options.onFenced(this.#lastError ?? `mirror ${this.name} knows of a newer epoch`);
    }
  }

  #sendResyncEnd(): void {
    this.record.scanned = true;
    this.#sequence += 1;
    this.#confirmSequence = this.#sequence;
    this.#connection?.send(this.#headers.encode(frameTypes.resyncEnd, 0, 0, this.#sequence));
    this.#unsynced.flushSent(this.#sequence);
  }

  #sendInSync(): void {
    const { baseId } = this.record;
    assert(baseId !== undefined, 'a mirror in sync has a base');
    this.#lastError = undefined;
    this.#resync = undefined;
    this.#sendJson(frameTypes.inSync, { baseId, epoch: this.#options.identity.epoch });
  }

  async #ask(question: 'outdated' | 'inSync'): Promise<void> {
    const { arbiter, identity } = this.#options;
    const { volume, uid, epoch } = identity;
    const about = { volume, uid, epoch, mirror: this.name };
    const answer = await (question === 'outdated' ? arbiter.markOutdated(about) : arbiter.markInSync(about)).catch(
      () => 'unreachable' as const,
    );
    if (!this.#stopped) this.#event({ type: 'arbiter', question, answer });
  }
}

const barrierCodes = ['AlreadyExists', 'NoSpace', 'NotReady', 'Invalid', 'Io', 'Conflict'] as const;

function knownCode(code: string): (typeof barrierCodes)[number] {
  return barrierCodes.find((known) => known === code) ?? 'Io';
}
