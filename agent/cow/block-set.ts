/**
 * A set of block numbers that takes memory only where it has members, and remembers them as runs.
 *
 * Pure: no input or output.
 */
export class BlockSet {
  /** Bitmaps of `pageBlocks` blocks each. */
  readonly #pages = new Map<number, Uint8Array>();

  has(block: number): boolean {
    const page = this.#pages.get(Math.floor(block / pageBlocks));
    const within = block % pageBlocks;
    return page !== undefined && ((page[within >> 3] as number) & (1 << (within & 7))) !== 0;
  }

  add(block: number): void {
    const number = Math.floor(block / pageBlocks);
    let page = this.#pages.get(number);
    if (!page) {
      page = new Uint8Array(pageBlocks / 8);
      this.#pages.set(number, page);
    }
    const within = block % pageBlocks;
    page[within >> 3] = (page[within >> 3] as number) | (1 << (within & 7));
  }

  /** The members as runs of consecutive blocks, in order. */
  runs(): { first: number; count: number }[] {
    const runs: { first: number; count: number }[] = [];
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(number) as Uint8Array;
      for (let index = 0; index < page.length; index += 1) {
        const bits = page[index] as number;
        for (let bit = 0; bits >> bit !== 0; bit += 1) {
          if ((bits & (1 << bit)) === 0) continue;
          const block = number * pageBlocks + index * 8 + bit;
          const last = runs.at(-1);
          if (last && last.first + last.count === block) last.count += 1;
          else runs.push({ first: block, count: 1 });
        }
      }
    }
    return runs;
  }
}

const pageBlocks = 32 * 1024;
