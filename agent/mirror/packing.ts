import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompressSync } from 'node:zlib';
import { UnderstudyError } from '../../common/errors.ts';
import { type Frame, framesOf } from './frame-codec.ts';
import { frameTypes, headerBytes, maxPayloadBytes } from './protocol.ts';

const compress = promisify(zstdCompress);
/** What one packed frame may hold: some small frames, or a single one of the largest size. */
const maxUnpackedBytes = maxPayloadBytes + headerBytes;

/** Frames that are packed together, in bytes: more compresses better, and arrives later. */
export const packBytes = 256 * 1024;

/** Frames in one, or undefined if they are no smaller then. The work is done on another thread. */
export async function pack(frames: readonly Uint8Array[], totalBytes: number): Promise<Buffer | undefined> {
  const packed = await compress(Buffer.concat(frames, totalBytes), {
    params: { [constants.ZSTD_c_compressionLevel]: 1 },
  });
  return packed.length < totalBytes ? packed : undefined;
}

/** The frames as they were before they were packed; the packed ones are released. @throws UnderstudyError Protocol */
export function unpack(frames: readonly Frame[], release: (frame: Frame) => void): readonly Frame[] {
  if (!frames.some((frame) => frame.type === frameTypes.packed)) return frames;
  return frames.flatMap((frame) => {
    if (frame.type !== frameTypes.packed) return [frame];
    const unpacked = unpackOne(frame);
    release(frame);
    return unpacked;
  });
}

function unpackOne({ payload, length }: Frame): Frame[] {
  if (length > maxUnpackedBytes)
    throw new UnderstudyError('Protocol', `packed frames of ${length} bytes: expected at most ${maxUnpackedBytes}`);
  let content: Buffer;
  try {
    content = zstdDecompressSync(payload, { maxOutputLength: Math.max(1, length) });
  } catch (cause) {
    throw new UnderstudyError('Protocol', 'packed frames that cannot be unpacked', { cause });
  }
  const frames = framesOf(content);
  if (content.length === length && !frames.some((frame) => frame.type === frameTypes.packed)) return frames;
  throw new UnderstudyError('Protocol', `packed frames of ${content.length} bytes, ${length} were announced`);
}
