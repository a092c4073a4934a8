import { UnderstudyError } from '../../common/errors.ts';
import type { Range } from '../core/range.ts';
import type { BlockMap } from './block-map.ts';
import type { Seal } from './journal-codec.ts';
import { type Barrier, type BarrierDone, type BarrierRecord, encodeJson, type InSync } from './messages.ts';
import type { Announcement } from './mirror.ts';
import { frameFlags } from './protocol.ts';
import type { StandbyChannel } from './standby-channel.ts';
import { entryTypes, maxZeroBytes, type StreamEntry } from './stream-entry.ts';
import { StreamSender } from './stream-sender.ts';
import { StreamWaiters } from './stream-waiters.ts';
import { WriteStream, type WriteStreamOptions } from './write-stream.ts';

const nothing = Buffer.alloc(0);
const flushMarker: StreamEntry = { type: entryTypes.flush, flags: 0, offset: 0, length: 0, payload: nothing };

/**
 * The stream that the standby of an asynchronous mirror follows, with what hangs on it: who sends it over the present
 * connection, and who waits for something that travels in it.
 *
 * Invariants
 * - Either there is a stream, and every change of the source since its beginning is in it, in order; or there is none, and
 *   the caller records what may differ. One that cannot be followed exactly (no room, a failed local write, a standby that
 *   does not know where it was) is given up for good.
 * - It goes on with another connection, or another process of either side, only where the standby names it, and the
 *   position it was left at.
 */
export class FollowedStream {
  readonly #options: Omit<WriteStreamOptions, 'id' | 'onReadable'>;
  readonly #waiters = new StreamWaiters();
  #stream: WriteStream | undefined;
  #sender: StreamSender | undefined;
  /** The standby has not been sent yet what was there when it connected. */
  #catchingUp = false;

  constructor(options: Omit<WriteStreamOptions, 'id' | 'onReadable'>) {
    this.#options = options;
  }

  get exists(): boolean {
    return this.#stream !== undefined;
  }

  get lags(): boolean {
    return this.#catchingUp || this.#stream?.spilled === true;
  }

  get lagBytes(): number {
    return this.#stream?.lagBytes ?? 0;
  }

  get lagMs(): number {
    return this.#stream?.lagMs ?? 0;
  }

  // --- Its life -------------------------------------------------------------------------------------------------

  begin(id: string): void {
    this.#stream = new WriteStream({ ...this.#streamOptions(), id });
  }

  /** Goes on with what an orderly stop left in the journal. */
  resume(seal: Seal): void {
    this.#stream = WriteStream.resume(seal, this.#streamOptions());
  }

  #streamOptions(): Omit<WriteStreamOptions, 'id'> {
    return { ...this.#options, onReadable: () => this.#sender?.pump() };
  }

  /**
   * Goes back to where the standby says that it is, if it follows this stream and what comes then is still there.
   * @returns the stream and the position, and whether the standby has been told there that it is in order; undefined if it
   * cannot go on
   */
  rewind(
    at: { readonly id: string; readonly position: number } | undefined,
  ): { readonly id: string; readonly position: number; readonly announced: boolean } | undefined {
    const stream = this.#stream;
    if (!stream || at?.id !== stream.id || !stream.rewind(at.position)) return undefined;
    const lost = new UnderstudyError('Unavailable', 'the link was lost before the answer came; ask again');
    this.#waiters.failBarriers(lost, at.position);
    return { id: stream.id, position: at.position, announced: stream.announced > at.position };
  }

  /** Sends it over a connection from now on. @returns how many entries the standby is behind */
  sendOver(channel: StandbyChannel, compressed: boolean): number {
    const stream = this.#stream;
    if (!stream) return 0;
    this.#catchingUp = stream.taken < stream.end;
    const behind = stream.end - stream.taken;
    this.#sender = new StreamSender(channel, stream, compressed, this.#options.queueBytes / 4);
    this.#sender.pump();
    return behind;
  }

  /** The connection is gone. What was under way is still in the stream. */
  disconnected(reason: string): void {
    this.#sender = undefined;
    this.#waiters.failSyncs(new UnderstudyError('Unavailable', reason));
  }

  /**
   * From here on there is no stream: what the standby may lack of it goes to `missed`, and who waits gets the error.
   * @returns how far the standby was behind, and whether the stream began in another process; undefined without a stream
   */
  giveUp(missed: BlockMap, error: UnderstudyError): { readonly lagMs: number; readonly resumed: boolean } | undefined {
    const stream = this.#stream;
    if (!stream) return undefined;
    this.#stream = undefined;
    this.#sender = undefined;
    const { lagMs, resumed } = stream;
    stream.giveUp(missed);
    this.#waiters.failBarriers(error);
    this.#waiters.failSyncs(error);
    return { lagMs, resumed };
  }

  /** Leaves it in the journal, for another process. */
  async seal(): Promise<void> {
    await this.#stream?.seal();
  }

  abandon(error: UnderstudyError): void {
    this.#waiters.failBarriers(error);
  }

  // --- What goes into it ----------------------------------------------------------------------------------------

  write(offset: number, data: Uint8Array, fua: boolean): void {
    // The buffer is the caller's again before this has been sent.
    this.#append({ type: entryTypes.write, flags: 0, offset, length: 0, payload: Buffer.from(data) });
    if (fua) this.flush();
  }

  zero(range: Range, keepAllocated: boolean, fua: boolean): void {
    const flags = keepAllocated ? frameFlags.keepAllocated : 0;
    for (let at = 0; at < range.length; at += maxZeroBytes) {
      const length = Math.min(maxZeroBytes, range.length - at);
      this.#append({ type: entryTypes.zero, flags, offset: range.offset + at, length, payload: nothing });
    }
    if (fua) this.flush();
  }

  /** Nothing behind it is applied before everything in front of it is on stable storage. */
  flush(): void {
    this.#append(flushMarker);
  }

  /** Resolves with the standby's answer to a barrier at this point. */
  barrier(barrier: Barrier): Promise<BarrierRecord> {
    const done = this.#waiters.barrier(barrier.attempt, (this.#stream?.end ?? 0) + 1);
    this.#append({ type: entryTypes.barrier, flags: 0, offset: 0, length: 0, payload: encodeJson(barrier) });
    return done;
  }

  announce(what: Announcement, inSync: InSync): void {
    this.#append({ type: entryTypes[what], flags: 0, offset: 0, length: 0, payload: encodeJson(inSync) });
  }

  /** Resolves when everything up to this point is on the standby's stable storage. */
  synced(): Promise<void> {
    const stream = this.#stream;
    if (!stream || stream.confirmed >= stream.end) return Promise.resolve();
    return this.#waiters.sync(stream.end);
  }

  #append(entry: StreamEntry): void {
    this.#stream?.append(entry);
    this.#sender?.pump();
  }

  // --- What the standby says ------------------------------------------------------------------------------------

  onHeld(sequence: number): void {
    this.#sender?.onHeld(sequence);
    if (this.#stream && this.#stream.taken === this.#stream.end) this.#catchingUp = false;
  }

  onSynced(sequence: number): void {
    this.#sender?.onSynced(sequence);
    if (this.#stream) this.#waiters.synced(this.#stream.confirmed);
  }

  onBarrierDone(done: BarrierDone): void {
    this.#waiters.barrierDone(done);
  }

  askForSync(): void {
    this.#sender?.askForSync();
  }
}
