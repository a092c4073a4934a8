import { assert } from '../../common/assert.ts';

/** No entry, no slot: what the table answers and stores where there is none. */
export const none = 0xffff_ffff;

/**
 * Every preserved chunk of a volume, in flat arrays: an entry costs about 32 bytes and no object, so that a million of
 * them neither fill the heap nor keep the garbage collector busy.
 *
 * An entry says "in layer L, chunk C had the content in slot S with this checksum" (slot `none`: it was all zeroes).
 * The entries of one chunk form a chain from the newest layer to the oldest, at most one per layer; a hash finds the
 * newest. The entries of one layer form a list in no particular order.
 *
 * Pure: no input or output.
 */
export class ChunkTable {
  #chunk = new Uint32Array(initialEntries);
  #slot = new Uint32Array(initialEntries);
  #checksum = new Uint32Array(initialEntries);
  /** 0 marks an entry that is free. */
  #layer = new Uint32Array(initialEntries);
  /** The same chunk in the next older layer that has it. */
  #older = new Uint32Array(initialEntries);
  /** The next entry of the same layer, or of the list of free entries. */
  #next = new Uint32Array(initialEntries);
  #firstFree = none;
  #used = 0;
  #count = 0;

  /** Entry + 1 of the newest entry of a chunk, open addressing with linear probing; 0 is empty. At most half full. */
  #buckets = new Uint32Array(2 * initialEntries);
  #shift = 32 - Math.log2(2 * initialEntries);
  #chains = 0;

  readonly #layerFirst = new Map<number, number>();

  /** Entries in the table. */
  get count(): number {
    return this.#count;
  }

  /** Entries are numbered below this; some of the numbers may be free. It only grows. */
  get upperBound(): number {
    return this.#used;
  }

  isUsed(entry: number): boolean {
    return this.#layer[entry] !== 0;
  }

  chunkOf(entry: number): number {
    return this.#chunk[entry] as number;
  }

  slotOf(entry: number): number {
    return this.#slot[entry] as number;
  }

  checksumOf(entry: number): number {
    return this.#checksum[entry] as number;
  }

  layerOf(entry: number): number {
    return this.#layer[entry] as number;
  }

  /** The same chunk in an older layer, or none. */
  olderThan(entry: number): number {
    return this.#older[entry] as number;
  }

  /** The newest entry of a chunk, or none. */
  newestOf(chunk: number): number {
    const mask = this.#buckets.length - 1;
    for (let bucket = this.#home(chunk); ; bucket = (bucket + 1) & mask) {
      const entry = (this.#buckets[bucket] as number) - 1;
      if (entry < 0) return none;
      if (this.#chunk[entry] === chunk) return entry;
    }
  }

  /** The entry of the same chunk in the next newer layer, or none. */
  newerThan(entry: number): number {
    let newer = none;
    for (let at = this.newestOf(this.chunkOf(entry)); at !== entry; at = this.#older[at] as number) newer = at;
    return newer;
  }

  /** Any entry of a layer, or none if it has none. */
  firstOfLayer(layer: number): number {
    return this.#layerFirst.get(layer) ?? none;
  }

  /** Adds an entry at its place in the chain of its chunk. The layer must not have that chunk yet. */
  add(layer: number, chunk: number, slot: number, checksum: number): number {
    const entry = this.#newEntry();
    this.#chunk[entry] = chunk;
    this.#slot[entry] = slot;
    this.#checksum[entry] = checksum;
    this.#layer[entry] = layer;
    const newest = this.newestOf(chunk);
    if (newest === none) {
      this.#older[entry] = none;
      this.#insertChain(chunk, entry);
    } else if (this.layerOf(newest) < layer) {
      this.#older[entry] = newest;
      this.#buckets[this.#bucketOf(chunk)] = entry + 1;
    } else {
      let newer = newest;
      while (this.olderThan(newer) !== none && this.layerOf(this.olderThan(newer)) > layer)
        newer = this.olderThan(newer);
      const older = this.olderThan(newer);
      assert(this.layerOf(newer) !== layer && (older === none || this.layerOf(older) !== layer), 'one entry per chunk');
      this.#older[entry] = older;
      this.#older[newer] = entry;
    }
    this.#pushToLayer(layer, entry);
    return entry;
  }

  /** Takes the first entry of a layer out of the table. */
  removeFirstOfLayer(layer: number): void {
    const entry = this.#popFromLayer(layer);
    const older = this.olderThan(entry);
    const newer = this.newerThan(entry);
    if (newer !== none) this.#older[newer] = older;
    else if (older !== none) this.#buckets[this.#bucketOf(this.chunkOf(entry))] = older + 1;
    else this.#removeChain(this.chunkOf(entry));
    this.#layer[entry] = 0;
    this.#next[entry] = this.#firstFree;
    this.#firstFree = entry;
    this.#count -= 1;
  }

  /** Moves the first entry of a layer to an older one, which must come right after it in the chain and lack the chunk. */
  moveFirstOfLayer(layer: number, target: number): void {
    const entry = this.#popFromLayer(layer);
    const older = this.olderThan(entry);
    assert(target < layer && (older === none || this.layerOf(older) < target), 'an entry moves within its chain');
    this.#layer[entry] = target;
    this.#pushToLayer(target, entry);
  }

  /** Takes one entry of a layer out, wherever it stands in the layer's list; slow, for recovery only. */
  remove(entry: number): void {
    const layer = this.layerOf(entry);
    const first = this.firstOfLayer(layer);
    if (first !== entry) {
      let before = first;
      while (this.#next[before] !== entry) before = this.#next[before] as number;
      this.#next[before] = this.#next[entry] as number;
      this.#next[entry] = first;
      this.#layerFirst.set(layer, entry);
    }
    this.removeFirstOfLayer(layer);
  }

  #pushToLayer(layer: number, entry: number): void {
    this.#next[entry] = this.firstOfLayer(layer);
    this.#layerFirst.set(layer, entry);
  }

  #popFromLayer(layer: number): number {
    const entry = this.firstOfLayer(layer);
    assert(entry !== none, 'a layer with entries');
    const next = this.#next[entry] as number;
    if (next === none) this.#layerFirst.delete(layer);
    else this.#layerFirst.set(layer, next);
    return entry;
  }

  #newEntry(): number {
    this.#count += 1;
    const free = this.#firstFree;
    if (free !== none) {
      this.#firstFree = this.#next[free] as number;
      return free;
    }
    if (this.#used === this.#chunk.length) this.#grow();
    this.#used += 1;
    return this.#used - 1;
  }

  #grow(): void {
    const length = 2 * this.#chunk.length;
    this.#chunk = enlarged(this.#chunk, length);
    this.#slot = enlarged(this.#slot, length);
    this.#checksum = enlarged(this.#checksum, length);
    this.#layer = enlarged(this.#layer, length);
    this.#older = enlarged(this.#older, length);
    this.#next = enlarged(this.#next, length);
  }

  #home(chunk: number): number {
    return Math.imul(chunk, 0x9e37_79b1) >>> this.#shift;
  }

  #bucketOf(chunk: number): number {
    const mask = this.#buckets.length - 1;
    let bucket = this.#home(chunk);
    while (this.#chunk[(this.#buckets[bucket] as number) - 1] !== chunk) bucket = (bucket + 1) & mask;
    return bucket;
  }

  #insertChain(chunk: number, entry: number): void {
    this.#chains += 1;
    if (2 * this.#chains > this.#buckets.length) this.#rehash();
    this.#placeChain(chunk, entry);
  }

  #placeChain(chunk: number, entry: number): void {
    const mask = this.#buckets.length - 1;
    let bucket = this.#home(chunk);
    while (this.#buckets[bucket] !== 0) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = entry + 1;
  }

  #rehash(): void {
    const old = this.#buckets;
    this.#buckets = new Uint32Array(2 * old.length);
    this.#shift -= 1;
    for (const stored of old) if (stored !== 0) this.#placeChain(this.chunkOf(stored - 1), stored - 1);
  }

  /** Empties a bucket and moves back what had been pushed past it, so that no search meets a gap. */
  #removeChain(chunk: number): void {
    this.#chains -= 1;
    const mask = this.#buckets.length - 1;
    let gap = this.#bucketOf(chunk);
    for (let bucket = (gap + 1) & mask; this.#buckets[bucket] !== 0; bucket = (bucket + 1) & mask) {
      const home = this.#home(this.chunkOf((this.#buckets[bucket] as number) - 1));
      const distanceFromHome = (bucket - home) & mask;
      const distanceFromGap = (bucket - gap) & mask;
      if (distanceFromHome < distanceFromGap) continue;
      this.#buckets[gap] = this.#buckets[bucket] as number;
      gap = bucket;
    }
    this.#buckets[gap] = 0;
  }
}

function enlarged(array: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(length);
  larger.set(array);
  return larger;
}

/** A power of two: what an idle volume pays. */
const initialEntries = 1024;
