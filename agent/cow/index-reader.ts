import type { RandomAccessFile } from '../core/storage.ts';
import { decodeFrame, type Frame, frameAlignment, peekFrame } from './index-codec.ts';

/** What was found in an index region. */
export interface IndexEnd {
  /** Where the next frame goes: behind the last whole one. */
  readonly offset: number;
  readonly sequence: number;
  /** The records of the last frame; the only one that may have been written but not synced before a crash. */
  readonly lastPayload: Uint8Array | undefined;
}

export interface FrameHandler {
  frame(payload: Uint8Array): void;
  /** Frames that were on stable storage are damaged or gone; what they said is not known. */
  damaged(): void;
}

/**
 * Reads the frames of an index region in order.
 *
 * A frame is written only when the one before it is on stable storage. So a frame that is not whole, with no later one
 * behind it, is what a crash left of the last write: it is cut off. With a later one behind it, it is damage.
 * @throws UnderstudyError Io
 */
export async function readIndex(
  file: RandomAccessFile,
  region: { readonly offset: number; readonly length: number; readonly generation: number },
  handler: FrameHandler,
): Promise<IndexEnd> {
  const end = region.offset + region.length;
  const window = new Window(file, end);
  let offset = region.offset;
  let sequence = 0;
  let lastPayload: Uint8Array | undefined;
  while (offset < end) {
    let frame = await frameAt(window, offset, region.generation);
    if (!frame || frame.sequence !== sequence) {
      const later = await laterFrame(file, window, offset, sequence, region.generation);
      if (!later) break;
      handler.damaged();
      offset = later.offset;
      frame = later.frame;
    }
    handler.frame(frame.payload);
    lastPayload = frame.payload;
    sequence = frame.sequence + 1;
    offset += frame.byteLength;
  }
  return { offset, sequence, lastPayload: lastPayload && Uint8Array.from(lastPayload) };
}

async function frameAt(window: Window, offset: number, generation: number): Promise<Frame | undefined> {
  const start = await window.bytes(offset, frameAlignment);
  const length = peekFrame(start, generation);
  if (length === undefined || length > window.end - offset) return undefined;
  return decodeFrame(await window.bytes(offset, length), generation);
}

async function laterFrame(
  file: RandomAccessFile,
  window: Window,
  from: number,
  sequence: number,
  generation: number,
): Promise<{ offset: number; frame: Frame } | undefined> {
  let offset = from;
  for (const extent of file.extents(from, window.end - from)) {
    const extentEnd = offset + extent.length;
    offset += (frameAlignment - (offset % frameAlignment)) % frameAlignment;
    for (; !extent.zero && offset < extentEnd; offset += frameAlignment) {
      const frame = offset > from ? await frameAt(window, offset, generation) : undefined;
      if (frame && frame.sequence >= sequence) return { offset, frame };
    }
    offset = extentEnd;
  }
  return undefined;
}

/** Reads a file in long pieces and hands out short ones. */
class Window {
  readonly end: number;
  readonly #file: RandomAccessFile;
  #start = 0;
  #bytes = new Uint8Array(0);

  constructor(file: RandomAccessFile, end: number) {
    this.#file = file;
    this.end = end;
  }

  async bytes(offset: number, length: number): Promise<Uint8Array> {
    if (offset < this.#start || offset + length > this.#start + this.#bytes.byteLength) {
      const bytes = new Uint8Array(Math.min(Math.max(length, windowBytes), this.end - offset));
      await this.#file.read(offset, bytes);
      this.#bytes = bytes;
      this.#start = offset;
    }
    return this.#bytes.subarray(offset - this.#start, offset - this.#start + length);
  }
}

const windowBytes = 1024 * 1024;
