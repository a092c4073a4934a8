import type { Clock } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Connection } from '../core/connection.ts';
import { ApplyQueue } from './apply-queue.ts';
import { type Frame, FrameParser, HeaderEncoder } from './frame-codec.ts';
import {
  type Barrier,
  type BarrierRecord,
  barrierSchema,
  decodeJson,
  encodeJson,
  type Hello,
  helloSchema,
  type InSync,
  inSyncSchema,
  type Refuse,
  type ResyncBegin,
  resyncBeginSchema,
  type StreamPosition,
  type StreamStart,
  streamSchema,
  type Welcome,
} from './messages.ts';
import { unpack } from './packing.ts';
import { frameFlags, frameTypes, headerBytes, protocolVersion } from './protocol.ts';
import { StandbyChanges } from './standby-changes.ts';

/** What a standby's end of a mirror needs of its volume. */
export interface StandbyCopy {
  readonly device: BlockDevice;
  /** Decides whether this primary may write here, durably notes its epoch, and ends older links. */
  admit(hello: Hello, session: StandbySession): Promise<Welcome | Refuse>;
  /** Durably becomes a resync target; takes the safety snapshot first if there is a consistent image to keep. */
  beginResync(begin: ResyncBegin): Promise<void>;
  /** Durably goes on with a stream where it was left. @returns whether the copy is the image of one moment */
  resumeStream(start: StreamStart): Promise<boolean>;
  /** Durably becomes the image of one moment, and, if `clean`, a copy that may be promoted. */
  becomeInSync(inSync: InSync, clean: boolean): Promise<void>;
  /** Takes a snapshot at this point of the stream; resolves when it is Ready. */
  takeSnapshot(barrier: Barrier): Promise<BarrierRecord>;
  /**
   * What was reported as held could not be applied, or not synced: the copy lacks it, also after this session has ended.
   * Resolves when the copy is marked as such.
   */
  failed(error: unknown): Promise<void>;
  ended(session: StandbySession): void;
}

/** Bytes received and not yet applied, above which nothing more is read from the link. */
const applyQueueBytes = 16 * 1024 * 1024;
/** See Welcome. */
const features = ['asynchronous', 'cascade', 'zstd'];
const quietTypes: ReadonlySet<number> = new Set([
  frameTypes.hello,
  frameTypes.resyncBegin,
  frameTypes.stream,
  frameTypes.inSync,
]);

/**
 * The standby's end of a mirror: applies the primary's stream in order, says what it holds, and what is synced.
 *
 * Invariants
 * - A sequence is reported as held only when it and all before it have been received and are in the apply queue; it is
 *   reported as synced only when all up to it are applied, and a sync that began after that has completed.
 * - On an asynchronous mirror nothing behind a flush is applied before everything in front of it has been synced, so that
 *   the copy is, whatever crashes, what the primary's disk could have been at some moment.
 * - Nothing is applied before the handshake has been answered, nor after the session has been ended (rule 10).
 */
export class StandbySession {
  readonly #connection: Connection;
  readonly #copy: StandbyCopy;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #parser = new FrameParser();
  readonly #headers = new HeaderEncoder();
  #phase: 'hello' | 'admitting' | 'admitted' | 'resyncing' | 'inSync' | 'ended' = 'hello';
  #hello: Hello | undefined;
  #sequence = 0;
  /** On an asynchronous mirror: the last entry that has been applied, or is being applied. */
  #stream: StreamPosition | undefined;
  #receivedBytes = 0;
  #heardMs: number;
  #paused = false;
  readonly #queue: ApplyQueue;
  readonly #changes: StandbyChanges;
  /** JSON frames are dealt with one after the other; the frames behind them wait. */
  #backlog: Frame[] = [];
  #busy = false;
  /** The step under way while busy. */
  #step: Promise<void> = Promise.resolve();

  constructor(connection: Connection, copy: StandbyCopy, log: Log, clock: Clock) {
    this.#connection = connection;
    this.#copy = copy;
    this.#log = log;
    this.#clock = clock;
    this.#heardMs = clock.monotonicMs();
    this.#queue = new ApplyQueue(
      copy.device,
      (error) => this.#notApplied(error),
      () => this.#regulate(),
    );
    this.#changes = new StandbyChanges(copy.device, this.#queue);
    connection.handle({
      room: () => (this.#ended ? undefined : this.#parser.room()),
      filled: (bytes) => this.#received(() => this.#parser.filled(bytes)),
      received: (bytes) => this.#received(() => this.#parser.push(bytes)),
      drained: () => undefined,
      closed: (reason) => this.#closed(reason),
    });
  }

  get hello(): Hello | undefined {
    return this.#hello;
  }

  get inSync(): boolean {
    return this.#phase === 'inSync';
  }

  /** Bytes that the resync of this session had to bring. */
  get copiedBytes(): number {
    return this.#changes.copiedBytes;
  }

  /** How long nothing has come from the primary, which sends something every few seconds. */
  get silentMs(): number {
    return this.#clock.monotonicMs() - this.#heardMs;
  }

  /** Where the stream of an asynchronous mirror was left; meaningful when the session has ended in good order. */
  get stream(): StreamPosition | undefined {
    return this.#stream;
  }

  get resyncing(): boolean {
    return this.#phase === 'resyncing';
  }

  /** Ends the link at once; resolves when nothing of it will reach the device any more. */
  async end(reason: string): Promise<void> {
    this.#phase = 'ended';
    this.#backlog = [];
    this.#connection.destroy(new Error(reason));
    await this.#step;
    await this.#queue.settled();
  }

  #closed(reason: Error | undefined): void {
    if (this.#phase !== 'ended')
      this.#log.warn({ reason: reason?.message ?? 'closed by the peer' }, 'the link to the primary is down');
    this.#phase = 'ended';
    this.#backlog = [];
    this.#copy.ended(this);
  }

  #received(parse: () => readonly Frame[]): void {
    if (this.#phase === 'ended') return;
    this.#heardMs = this.#clock.monotonicMs();
    try {
      const frames = unpack(parse(), this.#release);
      if (this.#busy) {
        for (const frame of frames) this.#backlog.push(frame);
        this.#regulate();
      } else {
        this.#accept(frames);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes frames over in order: first says that they are held, then applies them. */
  #accept(frames: readonly Frame[]): void {
    let count = 0;
    let held = false;
    for (; count < frames.length && !this.#busy; count += 1) {
      const frame = frames[count];
      if (frame && this.#hold(frame)) held = true;
      if (frame && needsQuiet(frame)) {
        count += 1;
        break;
      }
    }
    if (held) this.#sendHeld();
    try {
      for (const frame of frames.slice(0, count)) {
        this.#apply(frame);
        // The payload of a write belongs to the device until it has been applied.
        if (frame.type !== frameTypes.write) this.#release(frame);
      }
    } catch (error) {
      // The frames behind it have been reported as held as well.
      void this.#notApplied(error);
      return;
    }
    for (const frame of frames.slice(count)) this.#backlog.push(frame);
    if (!this.#busy && count < frames.length) this.#continue();
    this.#regulate();
  }

  /** Notes that the frame is here. Its payload stays referenced until it is applied: that is the apply queue. */
  #hold(frame: Frame): boolean {
    if (frame.sequence === 0) return false;
    if (frame.sequence !== this.#sequence + 1) {
      throw new UnderstudyError(
        'Protocol',
        `expected sequence ${this.#sequence + 1} on the mirror link, got ${frame.sequence}`,
      );
    }
    this.#sequence = frame.sequence;
    if (frame.type === frameTypes.digestRequest) this.#receivedBytes += frame.length;
    else if (frame.type === frameTypes.write || frame.type === frameTypes.zero) {
      this.#receivedBytes += headerBytes + frame.payload.length;
    }
    return true;
  }

  readonly #release = (frame: Frame) => this.#parser.release(frame);

  #sendHeld(): void {
    this.#connection.send(this.#headers.encode(frameTypes.held, 0, 0, this.#sequence, this.#receivedBytes));
    // Before the frames are applied: the primary's answer to its client need not wait for that.
    this.#connection.flush();
  }

  #apply(frame: Frame): void {
    if (this.#phase === 'ended') return;
    if (isEntry(frame) && !needsQuiet(frame)) this.#passEntry();
    switch (frame.type) {
      case frameTypes.write:
      case frameTypes.zero:
        return this.#applyChange(frame);
      case frameTypes.flush:
        if (isEntry(frame)) return this.#quietly(() => this.#passFlush(frame.sequence));
        return void this.#queue.sync(() => this.#send(frameTypes.synced, frame.sequence));
      case frameTypes.resyncEnd:
        return void this.#queue.sync(() => this.#send(frameTypes.confirmed, frame.sequence));
      case frameTypes.digestRequest:
        return this.#digest(frame);
      case frameTypes.barrier:
        return this.#barrier(decodeJson('barrier', barrierSchema, frame.payload));
      case frameTypes.ping:
        return this.#connection.send(this.#headers.encode(frameTypes.pong, 0, 0));
      case frameTypes.hello:
        return this.#quietly(() => this.#onHello(decodeJson('hello', helloSchema, frame.payload)));
      case frameTypes.resyncBegin:
        return this.#quietly(() =>
          this.#onResyncBegin(decodeJson('resync', resyncBeginSchema, frame.payload), isEntry(frame)),
        );
      case frameTypes.stream:
        return this.#quietly(() => this.#onStream(decodeJson('stream', streamSchema, frame.payload)));
      case frameTypes.inSync:
        return this.#quietly(() => this.#onInSync(decodeJson('in-sync', inSyncSchema, frame.payload), isEntry(frame)));
      default:
        throw new UnderstudyError(
          'Protocol',
          `the primary sent a frame of type ${frame.type}, which only a standby sends`,
        );
    }
  }

  #passEntry(): void {
    const stream = this.#stream;
    if (!stream) throw new UnderstudyError('Protocol', 'an entry of a stream that has not begun');
    this.#stream = { id: stream.id, position: stream.position + 1 };
  }

  /** A marker of an asynchronous stream: what comes behind it waits until everything in front of it is synced. */
  async #passFlush(sequence: number): Promise<void> {
    let synced = false;
    await this.#queue.sync(() => {
      synced = true;
    });
    if (!synced || this.#stream === undefined) return;
    this.#passEntry();
    if (!this.#ended) this.#send(frameTypes.synced, sequence);
  }

  #applyChange(frame: Frame): void {
    if (this.#phase !== 'resyncing' && this.#phase !== 'inSync') {
      throw new UnderstudyError('Protocol', 'a write before the standby has accepted a resync');
    }
    this.#changes.apply(frame, () => this.#release(frame));
  }

  /** Lets the primary's sends wait while the apply queue is full. */
  #regulate(): void {
    const full = this.#busy || this.#queue.queuedBytes > applyQueueBytes;
    if (full === this.#paused) return;
    this.#paused = full;
    if (full) this.#connection.pause();
    else this.#connection.resume();
  }

  #digest(frame: Frame): void {
    this.#changes.digest(
      frame,
      (digests) =>
        this.#connection.send(this.#headers.encode(frameTypes.digests, 0, digests.length, frame.sequence), digests),
      (error) => this.#fail(error),
    );
  }

  #barrier(barrier: Barrier): void {
    const { snapshot, attempt } = barrier;
    // On a synchronous mirror the primary knows; its word that this copy is in sync may still be on its way.
    if (this.#phase !== 'inSync' && this.#stream) {
      const error = { code: 'NotReady', message: 'the standby is being resynchronised; try again later' };
      return this.#sendJson(frameTypes.barrierDone, { snapshot, attempt, error });
    }
    this.#copy.takeSnapshot(barrier).then(
      (record) => this.#sendJson(frameTypes.barrierDone, { snapshot, attempt, record }),
      (error: unknown) =>
        this.#sendJson(frameTypes.barrierDone, {
          snapshot,
          attempt,
          error: { code: errorCode(error), message: errorMessage(error) },
        }),
    );
  }

  async #onHello(hello: Hello): Promise<void> {
    if (this.#phase !== 'hello') throw new UnderstudyError('Protocol', 'a second hello on a mirror link');
    this.#phase = 'admitting';
    this.#hello = hello;
    const answer = await this.#copy.admit(hello, this);
    if (this.#ended) return;
    if ('reason' in answer) {
      this.#log.warn({ reason: answer.reason, epoch: hello.epoch }, `refused a primary: ${answer.message}`);
      return this.#sendJson(frameTypes.refuse, answer);
    }
    this.#phase = 'admitted';
    this.#sendJson(frameTypes.welcome, { ...answer, protocol: protocolVersion, features });
  }

  async #onResyncBegin(begin: ResyncBegin, announced: boolean): Promise<void> {
    if (this.#phase !== 'admitted' && !announced) throw new UnderstudyError('Protocol', 'a resync out of turn');
    await this.#copy.beginResync(begin);
    if (announced) this.#passEntry();
    if (this.#ended) return;
    this.#phase = 'resyncing';
    if (!announced) this.#send(frameTypes.resyncAccepted, 0);
  }

  async #onStream(start: StreamStart): Promise<void> {
    if (this.#phase === 'admitted') {
      const inOrder = await this.#copy.resumeStream(start);
      this.#stream = start.stream;
      if (this.#ended) return;
      this.#phase = inOrder ? 'inSync' : 'resyncing';
      this.#send(frameTypes.resyncAccepted, 0);
    } else if (this.#phase !== 'resyncing') {
      throw new UnderstudyError('Protocol', 'a stream out of turn');
    }
    this.#stream = start.stream;
  }

  async #onInSync(inSync: InSync, announced: boolean): Promise<void> {
    if (this.#phase !== 'resyncing') throw new UnderstudyError('Protocol', 'in sync without a resync');
    const synchronous = this.#stream === undefined;
    // What is in front of it may still be on its way to the disk.
    if (!synchronous) await this.#queue.sync(() => undefined);
    if (this.#ended) return;
    await this.#copy.becomeInSync(inSync, synchronous);
    if (announced) this.#passEntry();
    if (!this.#ended) this.#phase = 'inSync';
  }

  get #ended(): boolean {
    return this.#phase === 'ended';
  }

  /** Runs a step during which no later frame is looked at. */
  #quietly(work: () => Promise<void>): void {
    this.#busy = true;
    this.#step = work()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#busy = false;
        this.#continue();
      });
  }

  #continue(): void {
    const backlog = this.#backlog;
    this.#backlog = [];
    if (this.#ended) return;
    try {
      this.#accept(backlog);
    } catch (error) {
      this.#fail(error);
    }
  }

  #send(
    type: typeof frameTypes.synced | typeof frameTypes.confirmed | typeof frameTypes.resyncAccepted,
    sequence: number,
  ): void {
    this.#connection.send(this.#headers.encode(type, 0, 0, sequence));
  }

  #sendJson(
    type:
      | typeof frameTypes.welcome
      | typeof frameTypes.refuse
      | typeof frameTypes.barrierDone
      | typeof frameTypes.failed,
    message: object,
  ): void {
    const payload = encodeJson(message);
    this.#connection.send(this.#headers.encode(type, 0, payload.length), payload);
  }

  /** Whatever became of the link meanwhile: the copy must not count as complete any more. */
  async #notApplied(error: unknown): Promise<void> {
    this.#stream = undefined;
    this.#fail(error);
    await this.#copy.failed(error);
  }

  /** Something went wrong that this link cannot survive. The primary is told, so that it need not wait. */
  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#log.error({ error: errorMessage(error) }, 'the mirror link fails');
    this.#sendJson(frameTypes.failed, { message: errorMessage(error) });
    this.#phase = 'ended';
    this.#backlog = [];
    // Ends after what is queued has gone out.
    this.#clock.soon(() => this.#connection.destroy());
  }
}

/** Frames behind one of these wait until it has been dealt with. */
function needsQuiet(frame: Frame): boolean {
  return quietTypes.has(frame.type) || (frame.type === frameTypes.flush && isEntry(frame));
}

function isEntry(frame: Frame): boolean {
  return (frame.flags & frameFlags.stream) !== 0;
}
