import { errorMessage } from '../../common/errors.ts';
import { pack, packBytes } from './packing.ts';
import { SequenceMarks } from './sequence-marks.ts';
import type { StandbyChannel } from './standby-channel.ts';
import { entryTypes } from './stream-entry.ts';
import type { WriteStream } from './write-stream.ts';

/** Bytes sent and not held by the standby, above which the stream waits. */
const windowBytes = 4 * 1024 * 1024;
/** Below this, compressing costs more than it saves. */
const minPackBytes = 256;

/**
 * Sends a stream over one connection, as fast as the standby takes it, and passes on what the standby says of it.
 *
 * Invariant: nothing else that has a sequence is sent on the channel meanwhile, since frames that are being compressed have
 * theirs already.
 */
export class StreamSender {
  readonly #channel: StandbyChannel;
  readonly #stream: WriteStream;
  readonly #compressed: boolean;
  /** A sync is asked for at the latest after this many bytes. */
  readonly #syncBytes: number;
  readonly #held = new SequenceMarks();
  readonly #synced = new SequenceMarks();
  #unaskedBytes = 0;
  #packing = false;

  constructor(channel: StandbyChannel, stream: WriteStream, compressed: boolean, syncBytes: number) {
    this.#channel = channel;
    this.#stream = stream;
    this.#compressed = compressed;
    this.#syncBytes = syncBytes;
  }

  /** Sends what can be sent now. */
  pump(): void {
    if (this.#packing) return;
    if (this.#compressed) return void this.#packAll();
    const before = this.#stream.taken;
    while (this.#channel.inFlightBytes < windowBytes) {
      const entry = this.#stream.take();
      if (!entry) break;
      this.#sent(entry.type, entry.payload.length, this.#channel.entry(entry));
    }
    if (this.#stream.taken > before) this.#noteHeld();
  }

  /** Asks for a sync of what has been sent, unless one is under way already; everything is known some time after. */
  askForSync(): void {
    if (this.#packing || this.#synced.size > 0 || this.#stream.confirmed >= this.#stream.taken) return;
    this.#unaskedBytes = 0;
    this.#synced.add(this.#channel.requestSync(), this.#stream.taken);
  }

  onHeld(sequence: number): void {
    const position = this.#held.reached(sequence);
    if (position !== undefined) this.#stream.held(position);
    this.pump();
  }

  onSynced(sequence: number): void {
    const position = this.#synced.reached(sequence);
    if (position !== undefined) this.#stream.synced(position);
    this.pump();
  }

  #sent(type: number, bytes: number, sequence: number): void {
    this.#unaskedBytes += bytes;
    if (type !== entryTypes.flush) return;
    this.#unaskedBytes = 0;
    this.#synced.add(sequence, this.#stream.taken);
  }

  #noteHeld(): void {
    this.#held.add(this.#channel.sequence, this.#stream.taken);
    if (this.#unaskedBytes >= this.#syncBytes) this.askForSync();
  }

  async #packAll(): Promise<void> {
    this.#packing = true;
    try {
      while (this.#channel.inFlightBytes < windowBytes && (await this.#packSome()));
    } catch (error) {
      this.#channel.destroy(`cannot compress: ${errorMessage(error)}`);
    } finally {
      this.#packing = false;
    }
    if (this.#unaskedBytes >= this.#syncBytes) this.askForSync();
  }

  /** @returns whether there was anything to send */
  async #packSome(): Promise<boolean> {
    const frames: Uint8Array[] = [];
    let bytes = 0;
    while (bytes < packBytes) {
      const entry = this.#stream.take();
      if (!entry) break;
      for (const piece of this.#channel.encodeEntry(entry)) {
        frames.push(piece);
        bytes += piece.length;
      }
      this.#sent(entry.type, entry.payload.length, this.#channel.sequence);
    }
    if (bytes === 0) return false;
    this.#held.add(this.#channel.sequence, this.#stream.taken);
    const packed = bytes < minPackBytes ? undefined : await pack(frames, bytes);
    if (packed) this.#channel.packed(packed, bytes);
    else this.#channel.plain(frames);
    return true;
  }
}
