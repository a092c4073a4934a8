import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import { type Acknowledgement, AcknowledgementQueue } from './acknowledgement.ts';
import type { BlockMap } from './block-map.ts';
import { missedBlockBytes } from './differences.ts';
import { type Frame, FrameParser, HeaderEncoder } from './frame-codec.ts';
import {
  type Barrier,
  type BarrierDone,
  barrierDoneSchema,
  decodeJson,
  encodeJson,
  failedSchema,
  type Hello,
  type InSync,
  type Refuse,
  type ResyncBegin,
  refuseSchema,
  type StreamStart,
  type Welcome,
  welcomeSchema,
} from './messages.ts';
import { frameFlags, frameTypes } from './protocol.ts';
import { entryTypes, type StreamEntry } from './stream-entry.ts';
import { UnsyncedMap } from './unsynced-map.ts';

/** What a link learns from its channel. */
export interface ChannelEvents {
  /** Something, anything, came from the standby. */
  heard(): void;
  welcome(welcome: Welcome): void;
  refused(refuse: Refuse): void;
  resyncAccepted(): void;
  /** Everything up to the end of the resync is applied and on the standby's stable storage. */
  confirmed(): void;
  /** Everything up to this sequence is in the standby's apply queue. */
  held?(sequence: number): void;
  /** Everything up to this sequence is applied and on the standby's stable storage. */
  synced?(sequence: number): void;
  /** The answer to a barrier that nobody waits for in the channel. */
  barrierDone?(done: BarrierDone): void;
  /** The connection is gone; called once, last. */
  closed(reason: string): void;
}

interface Waiter<Value> {
  resolve(value: Value): void;
  reject(error: unknown): void;
}

/** Bytes sent and not held, above which a resync pauses. */
const resyncWindowBytes = 8 * 1024 * 1024;
/** Bytes of one turn that are sent without waiting for its end. */
const eagerBytes = 32 * 1024;
/** The longest range of zeroes in one frame; its length must fit 32 bits. */
const maxZeroBytes = 1024 * 1024 * 1024;

/**
 * One connection from a primary to a standby, from its hello to its end: numbers what is sent, and matches what comes
 * back.
 *
 * Invariant: everything that depends on answers of this connection lives in here, so that nothing of it can be carried
 * over into the next one. What it leaves behind when it ends is what was sent and may not be on the standby's stable
 * storage (`leaveUnsynced`), and the acknowledgements that still wait (`strand`).
 */
export class StandbyChannel {
  readonly #connection: Connection;
  readonly #events: ChannelEvents;
  readonly #clock: Clock;
  readonly #parser = new FrameParser();
  readonly #headers = new HeaderEncoder();
  readonly #unsynced = new UnsyncedMap(missedBlockBytes);
  readonly #held = new AcknowledgementQueue();
  readonly #synced = new AcknowledgementQueue();
  readonly #barriers = new Map<string, Waiter<BarrierDone>>();
  #digests: Waiter<Buffer>[] = [];
  #room: Waiter<void>[] = [];
  #sequence = 0;
  #sentBytes = 0;
  #heldBytes = 0;
  #endOfResync: number | undefined;
  #failure: string | undefined;
  #closed = false;
  readonly #end = new AbortController();

  constructor(connection: Connection, events: ChannelEvents, clock: Clock) {
    this.#connection = connection;
    this.#events = events;
    this.#clock = clock;
    connection.handle({
      received: (bytes) => this.#received(bytes),
      drained: () => this.#roomChanged(),
      closed: (reason) => this.#ended(reason),
    });
  }

  /** Bytes sent that the standby has not said to hold. */
  get inFlightBytes(): number {
    return this.#sentBytes - this.#heldBytes;
  }

  /** Aborts when the connection has ended. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** Ends the connection; `closed` follows with this reason. */
  destroy(reason: string): void {
    this.#failure ??= reason;
    this.#connection.destroy(new Error(reason));
  }

  // --- Changes of the standby -----------------------------------------------------------------------------------

  write(range: Range, content: Uint8Array, flags: number): void {
    this.#sequence += 1;
    this.#unsynced.sent(range);
    const header = this.#headers.encode(frameTypes.write, flags, content.length, this.#sequence, range.offset);
    this.#connection.send(header, content);
    this.#sentBytes += header.length + content.length;
    this.#sendEagerly(header.length + content.length);
  }

  /**
   * The standby starts with the first write of a batch, and goes on with pieces of it, while the primary writes to its own
   * disk; a system call for each small write would cost both more than it gains.
   */
  #sendEagerly(bytes: number): void {
    const isIdle = this.inFlightBytes === bytes;
    if (isIdle || this.#connection.queuedBytes >= eagerBytes) this.#connection.flush();
  }

  zero({ offset, length }: Range, flags: number): void {
    for (let sent = 0; sent < length; sent += maxZeroBytes) {
      const piece = { offset: offset + sent, length: Math.min(maxZeroBytes, length - sent) };
      this.#sequence += 1;
      this.#unsynced.sent(piece);
      const header = this.#headers.encode(frameTypes.zero, flags, 0, this.#sequence, piece.offset, piece.length);
      this.#connection.send(header);
      this.#sentBytes += header.length;
    }
  }

  /** Completes when the standby holds everything sent so far. */
  awaitHeld(acknowledgement: Acknowledgement): void {
    this.#held.add(this.#sequence, acknowledgement);
  }

  /** Completes when everything sent so far is applied and on the standby's stable storage. */
  awaitSynced(acknowledgement: Acknowledgement): void {
    this.#sendFlush(frameTypes.flush);
    this.#synced.add(this.#sequence, acknowledgement);
  }

  /** The point of the write stream at which the standby takes a snapshot. */
  barrier(barrier: Barrier): Promise<BarrierDone> {
    return new Promise((resolve, reject) => {
      this.#barriers.set(barrier.attempt, { resolve, reject });
      this.#sequence += 1;
      this.#sendJson(frameTypes.barrier, barrier, this.#sequence);
    });
  }

  // --- The stream of an asynchronous mirror ---------------------------------------------------------------------

  /** From here on entries of the stream follow. */
  startStream(start: StreamStart): void {
    this.#sendJson(frameTypes.stream, start);
  }

  /** Sends one entry. @returns its sequence */
  entry(entry: StreamEntry): number {
    this.#connection.send(...this.encodeEntry(entry));
    return this.#sequence;
  }

  /** The frame of an entry, which counts as sent now. */
  encodeEntry({ type, flags, offset, length, payload }: StreamEntry): Uint8Array[] {
    this.#sequence += 1;
    const header = this.#headers.encode(
      type,
      flags | frameFlags.stream,
      payload.length,
      this.#sequence,
      offset,
      length,
    );
    if (type === entryTypes.write || type === entryTypes.zero) this.#sentBytes += header.length + payload.length;
    return payload.length > 0 ? [header, payload] : [header];
  }

  /** Frames that count as sent already, compressed. */
  packed(content: Uint8Array, unpackedBytes: number): void {
    this.#connection.send(this.#headers.encode(frameTypes.packed, 0, content.length, 0, 0, unpackedBytes), content);
  }

  /** Frames that count as sent already, as they are. */
  plain(frames: readonly Uint8Array[]): void {
    this.#connection.send(...frames);
  }

  /** Asks for a sync, which is no marker of the stream. @returns the sequence that `synced` reports */
  requestSync(): number {
    this.#sendFlush(frameTypes.flush);
    return this.#sequence;
  }

  get sequence(): number {
    return this.#sequence;
  }

  // --- The course of a link -------------------------------------------------------------------------------------

  hello(hello: Hello): void {
    this.#sendJson(frameTypes.hello, hello);
  }

  beginResync(begin: ResyncBegin): void {
    this.#sendJson(frameTypes.resyncBegin, begin);
  }

  /** `confirmed` follows. */
  endResync(): void {
    this.#sendFlush(frameTypes.resyncEnd);
    this.#endOfResync = this.#sequence;
  }

  inSync(inSync: InSync): void {
    this.#sendJson(frameTypes.inSync, inSync);
  }

  ping(): void {
    this.#connection.send(this.#headers.encode(frameTypes.ping, 0, 0));
  }

  /** The standby's digests of the range as of this point of the stream. */
  requestDigests({ offset, length }: Range): Promise<Buffer> {
    if (this.#closed) return Promise.reject(linkDown());
    return new Promise((resolve, reject) => {
      this.#digests.push({ resolve, reject });
      this.#sequence += 1;
      this.#connection.send(this.#headers.encode(frameTypes.digestRequest, 0, 0, this.#sequence, offset, length));
      // Reading and digesting cost the standby as much as the data would.
      this.#sentBytes += length;
    });
  }

  /** @throws UnderstudyError Unavailable when the connection has ended: what it left behind is accounted for already */
  sendResyncData(range: Range, content: Buffer): void {
    this.#checkUp();
    this.write(range, content, frameFlags.resync);
  }

  /** @throws as sendResyncData */
  sendResyncZeroes(range: Range, keepAllocated: boolean): void {
    this.#checkUp();
    this.zero(range, frameFlags.resync | (keepAllocated ? frameFlags.keepAllocated : 0));
  }

  /** Resolves when so little is in flight that a resync may send more. Rejects when the connection ends. */
  room(): Promise<void> {
    if (this.#closed) return Promise.reject(linkDown());
    return new Promise((resolve, reject) => {
      this.#room.push({ resolve, reject });
      // Not at once even if there is room: a resync gives way to the guest after each piece.
      this.#clock.soon(() => this.#roomChanged());
    });
  }

  // --- The end --------------------------------------------------------------------------------------------------

  /** Adds to the record of differences what the standby may have lost. */
  leaveUnsynced(missed: BlockMap): void {
    this.#unsynced.moveTo(missed);
  }

  /** Hands over what still waits for the standby. */
  strand(stranded: AcknowledgementQueue): void {
    this.#held.moveTo(stranded);
    this.#synced.moveTo(stranded);
  }

  #checkUp(): void {
    if (this.#closed) throw linkDown();
  }

  #ended(reason: Error | undefined): void {
    this.#closed = true;
    const message = this.#failure ?? (reason ? `the link was lost: ${reason.message}` : 'the standby closed the link');
    this.#events.closed(message);
    const error = new UnderstudyError('Unavailable', message);
    this.#end.abort(error);
    for (const waiter of [...this.#barriers.values(), ...this.#digests, ...this.#room]) waiter.reject(error);
    this.#barriers.clear();
    this.#digests = [];
    this.#room = [];
  }

  // --- What comes back ------------------------------------------------------------------------------------------

  #received(bytes: Uint8Array): void {
    if (this.#closed || this.#failure !== undefined) return;
    this.#events.heard();
    try {
      for (const frame of this.#parser.push(bytes)) {
        this.#frame(frame);
        this.#parser.release(frame);
      }
    } catch (error) {
      this.destroy(errorMessage(error));
    }
  }

  #frame(frame: Frame): void {
    switch (frame.type) {
      case frameTypes.held:
        return this.#onHeld(frame);
      case frameTypes.synced:
        return this.#onSynced(frame);
      case frameTypes.welcome:
        return this.#events.welcome(decodeJson('welcome', welcomeSchema, frame.payload));
      case frameTypes.refuse:
        return this.#events.refused(decodeJson('refusal', refuseSchema, frame.payload));
      case frameTypes.resyncAccepted:
        return this.#events.resyncAccepted();
      case frameTypes.digests:
        return this.#digests.shift()?.resolve(Buffer.from(frame.payload));
      case frameTypes.confirmed:
        if (frame.sequence === this.#endOfResync) this.#events.confirmed();
        return this.#unsynced.synced(frame.sequence);
      case frameTypes.barrierDone:
        return this.#onBarrierDone(decodeJson('barrier answer', barrierDoneSchema, frame.payload));
      case frameTypes.failed:
        return this.destroy(`the standby failed: ${decodeJson('failure', failedSchema, frame.payload).message}`);
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
    this.#checkSent(sequence);
    if (offset > this.#sentBytes) {
      throw new UnderstudyError('Protocol', `the standby holds ${offset} bytes, but only ${this.#sentBytes} were sent`);
    }
    this.#heldBytes = offset;
    this.#held.complete(sequence);
    this.#events.held?.(sequence);
    this.#roomChanged();
  }

  #onSynced({ sequence }: Frame): void {
    this.#checkSent(sequence);
    this.#unsynced.synced(sequence);
    this.#synced.complete(sequence);
    this.#events.synced?.(sequence);
  }

  #checkSent(sequence: number): void {
    if (sequence <= this.#sequence) return;
    throw new UnderstudyError('Protocol', `the standby answers for ${sequence}, but only ${this.#sequence} was sent`);
  }

  #onBarrierDone(done: BarrierDone): void {
    const waiter = this.#barriers.get(done.attempt);
    this.#barriers.delete(done.attempt);
    if (waiter) waiter.resolve(done);
    else this.#events.barrierDone?.(done);
  }

  #roomChanged(): void {
    if (this.#room.length === 0 || this.inFlightBytes > resyncWindowBytes) return;
    const waiters = this.#room;
    this.#room = [];
    for (const waiter of waiters) waiter.resolve();
  }

  // --------------------------------------------------------------------------------------------------------------

  #sendFlush(type: typeof frameTypes.flush | typeof frameTypes.resyncEnd): void {
    this.#sequence += 1;
    this.#connection.send(this.#headers.encode(type, 0, 0, this.#sequence));
    this.#unsynced.flushSent(this.#sequence);
  }

  #sendJson(type: JsonFrameType, message: object, sequence = 0): void {
    const payload = encodeJson(message);
    this.#connection.send(this.#headers.encode(type, 0, payload.length, sequence), payload);
  }
}

function linkDown(): UnderstudyError {
  return new UnderstudyError('Unavailable', 'the link to the standby is down');
}

type JsonFrameType =
  | typeof frameTypes.hello
  | typeof frameTypes.barrier
  | typeof frameTypes.resyncBegin
  | typeof frameTypes.stream
  | typeof frameTypes.inSync;
