import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice, Completion } from '../core/block-device.ts';
import { checkRange } from '../core/range.ts';
import type { ApplyQueue } from './apply-queue.ts';
import { digestsOf } from './digest.ts';
import type { Frame } from './frame-codec.ts';
import { frameFlags, frameTypes } from './protocol.ts';

const maxDigestRangeBytes = 16 * 1024 * 1024;
const nothing = () => undefined;

/** What a mirror's frames do to the standby's device, and what is read from it for the primary. */
export class StandbyChanges {
  readonly #device: BlockDevice;
  readonly #queue: ApplyQueue;
  /** Digest requests that wait for their turn. */
  #digesting = 0;
  #digestsSent: Promise<void> = Promise.resolve();
  /** Bytes that a resync had to bring. */
  copiedBytes = 0;

  constructor(device: BlockDevice, queue: ApplyQueue) {
    this.#device = device;
    this.#queue = queue;
  }

  /**
   * Applies a write or zero frame; what is not done at once is in the queue. `over` is called when the payload of a write is
   * not used any more.
   * @throws UnderstudyError Invalid if its range is not one of the device
   */
  apply(frame: Frame, over: () => void): void {
    const isWrite = frame.type === frameTypes.write;
    const isResync = (frame.flags & frameFlags.resync) !== 0;
    checkRange(this.#device, frame.offset, isWrite ? frame.payload.length : frame.length);
    if (isWrite) {
      if (isResync) this.copiedBytes += frame.payload.length;
      this.#queue.track(this.#device.write(frame.offset, frame.payload), frame.payload.length, over);
    } else if (isResync) {
      this.#zeroWhatIsNot(frame);
    } else {
      this.#queue.track(this.#zero(frame.offset, frame.length, frame.flags), 0, nothing);
    }
  }

  #zero(offset: number, length: number, flags: number): Completion {
    if ((flags & frameFlags.keepAllocated) === 0) return this.#device.trim(offset, length);
    return this.#device.writeZeroes(offset, length, { keepAllocated: true });
  }

  /** A resync sends every stretch of zeroes of the volume: most of it reads as zeroes here, too, and is left alone. */
  #zeroWhatIsNot({ offset, length, flags }: Frame): void {
    // Extents speak of what has been applied; with writes still under way they may be out of date.
    if (this.#queue.applying) {
      this.copiedBytes += length;
      return this.#queue.track(this.#zero(offset, length, flags), 0, nothing);
    }
    let at = offset;
    for (const extent of this.#device.extents(offset, length)) {
      if (!extent.zero) {
        this.copiedBytes += extent.length;
        this.#queue.track(this.#zero(at, extent.length, flags), 0, nothing);
      }
      at += extent.length;
    }
  }

  /**
   * Digests of a range as it is when everything in front of this frame has been applied. `send` is called in the order of
   * the requests; a failure to read goes to `fail`.
   * @throws UnderstudyError Protocol, Invalid
   */
  digest({ offset, length }: Frame, send: (digests: Buffer) => void, fail: (error: unknown) => void): void {
    checkRange(this.#device, offset, length);
    if (length > maxDigestRangeBytes)
      throw new UnderstudyError('Protocol', `digests of ${length} bytes: expected at most ${maxDigestRangeBytes}`);
    const content = Buffer.allocUnsafeSlow(length);
    const reading = this.#device.read(offset, content);
    if (!reading && this.#digesting === 0) return send(digestsOf(content));
    this.#digesting += 1;
    this.#digestsSent = this.#digestsSent
      .then(() => reading)
      .then(() => send(digestsOf(content)))
      .catch(fail)
      .finally(() => {
        this.#digesting -= 1;
      });
  }
}
