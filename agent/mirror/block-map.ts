import type { Range } from '../core/range.ts';

const pageBlocks = 32 * 1024;
const pageWords = pageBlocks / 32;

/**
 * A set of blocks of a volume, held as a bitmap whose pages exist only where a bit is set: a map of a volume of 1 TiB
 * in blocks of 4 KiB takes at most 32 MiB, and nothing while it is empty.
 */
export class BlockMap {
  readonly blockSize: number;
  readonly #pages = new Map<number, Uint32Array>();
  #count = 0;

  constructor(blockSize: number) {
    this.blockSize = blockSize;
  }

  /** Blocks in the set. */
  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#count * this.blockSize;
  }

  /** Adds every block that the range touches. */
  add({ offset, length }: Range): void {
    const last = Math.floor((offset + length - 1) / this.blockSize);
    for (let block = Math.floor(offset / this.blockSize); block <= last; block += 1) this.#set(block);
  }

  /** Removes the blocks that the range covers completely. */
  removeCovered({ offset, length }: Range): void {
    if (this.#count === 0) return;
    const end = Math.floor((offset + length) / this.blockSize);
    for (let block = Math.ceil(offset / this.blockSize); block < end; block += 1) this.#unset(block);
  }

  addAll(other: BlockMap): void {
    for (const range of other.ranges()) this.add(range);
  }

  has(offset: number): boolean {
    const block = Math.floor(offset / this.blockSize);
    const page = this.#pages.get(Math.floor(block / pageBlocks));
    return page !== undefined && bitOf(page, block % pageBlocks);
  }

  clear(): void {
    this.#pages.clear();
    this.#count = 0;
  }

  /** The first run of blocks at or after `from` (in bytes), at most `maxBytes` long; undefined if there is none. */
  next(from: number, maxBytes: number): Range | undefined {
    const first = this.#firstAtOrAfter(Math.floor(from / this.blockSize));
    if (first === undefined) return undefined;
    const maxBlocks = Math.max(1, Math.floor(maxBytes / this.blockSize));
    let blocks = 1;
    while (blocks < maxBlocks && this.has((first + blocks) * this.blockSize)) blocks += 1;
    return { offset: first * this.blockSize, length: blocks * this.blockSize };
  }

  /** All runs, in order. The map must not be changed meanwhile. */
  *ranges(maxBytes = Number.MAX_SAFE_INTEGER): Generator<Range> {
    for (let range = this.next(0, maxBytes); range; range = this.next(range.offset + range.length, maxBytes))
      yield range;
  }

  #set(block: number): void {
    const pageNumber = Math.floor(block / pageBlocks);
    let page = this.#pages.get(pageNumber);
    if (!page) {
      page = new Uint32Array(pageWords);
      this.#pages.set(pageNumber, page);
    }
    const bit = block % pageBlocks;
    if (bitOf(page, bit)) return;
    page[bit >>> 5] = (page[bit >>> 5] ?? 0) | (1 << (bit & 31));
    this.#count += 1;
  }

  #unset(block: number): void {
    const page = this.#pages.get(Math.floor(block / pageBlocks));
    const bit = block % pageBlocks;
    if (!page || !bitOf(page, bit)) return;
    page[bit >>> 5] = (page[bit >>> 5] ?? 0) & ~(1 << (bit & 31));
    this.#count -= 1;
  }

  #firstAtOrAfter(block: number): number | undefined {
    const startPage = Math.floor(block / pageBlocks);
    const inStartPage = this.#scan(startPage, block % pageBlocks);
    if (inStartPage !== undefined) return inStartPage;
    const later = [...this.#pages.keys()].filter((page) => page > startPage).sort((a, b) => a - b);
    for (const page of later) {
      const found = this.#scan(page, 0);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #scan(pageNumber: number, fromBit: number): number | undefined {
    const page = this.#pages.get(pageNumber);
    if (!page) return undefined;
    for (let index = fromBit >>> 5; index < pageWords; index += 1) {
      let word = page[index] ?? 0;
      if (index === fromBit >>> 5) word &= -1 << (fromBit & 31);
      if (word !== 0) return pageNumber * pageBlocks + index * 32 + (31 - Math.clz32(word & -word));
    }
    return undefined;
  }
}

function bitOf(page: Uint32Array, bit: number): boolean {
  return ((page[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
}
