import type { Readable } from 'node:stream';
import { UnderstudyError } from '../../common/errors.ts';

/**
 * Takes exactly as many bytes of a stream as are asked for; the rest stays in the stream, for whoever uses it after
 * `release`. One read at a time.
 */
export class ByteReader {
  readonly #stream: Readable;
  #wake: () => void = () => {};
  readonly #onChange = () => this.#wake();

  constructor(stream: Readable) {
    this.#stream = stream;
    // Listeners of `readable` stay: a stream calls a new one at once while it holds anything, be it too little.
    stream.on('readable', this.#onChange).on('end', this.#onChange).on('close', this.#onChange);
  }

  /** Bytes that are here already and have not been taken. */
  get bufferedBytes(): number {
    return this.#stream.readableLength;
  }

  /** @throws UnderstudyError Closed when the stream ends before */
  async read(length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    const stream = this.#stream;
    for (;;) {
      const bytes: Buffer | null = stream.read(length);
      if (bytes?.length === length) return bytes;
      if (bytes !== null || stream.destroyed || stream.readableEnded) {
        throw new UnderstudyError('Closed', 'the connection was closed in the middle of the handshake');
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  release(): void {
    this.#stream.off('readable', this.#onChange).off('end', this.#onChange).off('close', this.#onChange);
  }
}
