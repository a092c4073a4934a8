/**
 * The write-intent bitmap as a value: which regions of a volume may differ between its copies.
 *
 * A region is in one of four conditions, kept as three sets:
 * - `durable`: the bit is set on disk. A write may go into the region.
 * - `recent`: written since the checkpoint under way began (or, without one, since the last one ended).
 * - `settling`: written before the checkpoint under way began, and not since.
 *
 * Invariants: recent and settling are disjoint subsets of durable, and a bit leaves durable only at the end of a
 * checkpoint (a sync on every copy) that began after the region's last write (rule 8).
 */
export class RegionBitmap {
  readonly regionBytes: number;
  readonly regionCount: number;
  readonly #durable: Uint8Array;
  #recent = new Set<number>();
  #settling = new Set<number>();

  constructor(regionBytes: number, regionCount: number) {
    this.regionBytes = regionBytes;
    this.regionCount = regionCount;
    this.#durable = new Uint8Array(regionCount);
  }

  regionsOf(offset: number, length: number): { first: number; last: number } {
    return { first: Math.floor(offset / this.regionBytes), last: Math.floor((offset + length - 1) / this.regionBytes) };
  }

  isDurable(region: number): boolean {
    return this.#durable[region] === 1;
  }

  setDurable(region: number): void {
    this.#durable[region] = 1;
  }

  /** Notes a write into a region whose bit is durable. */
  touch(region: number): void {
    if (this.#recent.has(region)) return;
    this.#recent.add(region);
    this.#settling.delete(region);
  }

  get checkpointWanted(): boolean {
    return this.#recent.size > 0 && this.#settling.size === 0;
  }

  beginCheckpoint(): void {
    const settling = this.#recent;
    for (const region of this.#settling) settling.add(region);
    this.#settling = settling;
    this.#recent = new Set();
  }

  /** Every copy was synced after beginCheckpoint: the regions not written since are equal everywhere. */
  endCheckpoint(): number[] {
    const clean = [...this.#settling];
    for (const region of clean) this.#durable[region] = 0;
    this.#settling = new Set();
    return clean;
  }

  /** A copy could not be synced: what was to settle still may differ. */
  abandonCheckpoint(): void {
    for (const region of this.#settling) this.#recent.add(region);
    this.#settling = new Set();
  }

  *durableRegions(): Generator<number> {
    for (let region = this.#durable.indexOf(1); region >= 0; region = this.#durable.indexOf(1, region + 1))
      yield region;
  }
}
