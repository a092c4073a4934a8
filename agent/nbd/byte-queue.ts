/** Received bytes in order, of which pieces of a known size are taken: without a copy where a piece came in whole. */
export class ByteQueue {
  #chunks: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#length += bytes.length;
  }

  /** The next `size` bytes, or undefined while there are fewer. */
  take(size: number): Uint8Array | undefined {
    if (size > this.#length) return undefined;
    const first = this.#chunks[0] ?? new Uint8Array(0);
    const joined = first.length >= size ? first : Buffer.concat(this.#chunks);
    this.#chunks = joined === first ? this.#chunks.slice(1) : [];
    this.#length -= size;
    if (joined.length > size) this.#chunks.unshift(joined.subarray(size));
    return joined.subarray(0, size);
  }

  /** Drops up to `size` bytes and says how many. */
  drop(size: number): number {
    const dropped = Math.min(size, this.#length);
    this.take(dropped);
    return dropped;
  }
}
