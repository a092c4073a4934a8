/**
 * The write-intent bitmap as a value: which regions of a volume may differ between its copies.
 *
 * A region whose bit is set on disk is `durable`: a write may go into it. Time is counted in rounds; each region remembers
 * the round of its last write, and its bit stays set while that is recent. A region that is written again and again thus
 * costs one write of the bitmap, not one after every checkpoint.
 *
 * Invariant: a bit leaves durable only at the end of a checkpoint (a sync on every copy) that began after the region's last
 * write (rule 8). A checkpoint begins a round, so what is written while it runs is of that round or a later one.
 */
export class RegionBitmap {
  readonly regionBytes: number;
  readonly regionCount: number;
  readonly #durable: Uint8Array;
  readonly #writtenIn: Uint32Array;
  #round = 1;
  /** What the checkpoint under way may clear, and its round. */
  #settling: { readonly regions: readonly number[]; readonly round: number } | undefined;

  constructor(regionBytes: number, regionCount: number) {
    this.regionBytes = regionBytes;
    this.regionCount = regionCount;
    this.#durable = new Uint8Array(regionCount);
    this.#writtenIn = new Uint32Array(regionCount);
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
    this.#writtenIn[region] = this.#round;
  }

  /**
   * Begins a round, and with it a checkpoint if there is anything to clear: regions that were not written in the `quiet`
   * rounds before this one. @returns whether a checkpoint has begun
   */
  beginCheckpoint(quiet: number): boolean {
    this.#round += 1;
    const before = this.#round - quiet;
    const regions = [...this.durableRegions()].filter((region) => this.#lastWrite(region) < before);
    this.#settling = regions.length > 0 ? { regions, round: this.#round } : undefined;
    return this.#settling !== undefined;
  }

  /** Every copy was synced after beginCheckpoint: the regions not written since are equal everywhere. */
  endCheckpoint(): number[] {
    const { regions, round } = this.#settling ?? { regions: [], round: 0 };
    this.#settling = undefined;
    const clean = regions.filter((region) => this.#lastWrite(region) < round);
    for (const region of clean) this.#durable[region] = 0;
    return clean;
  }

  /** A copy could not be synced: what was to settle still may differ. */
  abandonCheckpoint(): void {
    this.#settling = undefined;
  }

  *durableRegions(): Generator<number> {
    for (let region = this.#durable.indexOf(1); region >= 0; region = this.#durable.indexOf(1, region + 1))
      yield region;
  }

  #lastWrite(region: number): number {
    return this.#writtenIn[region] ?? 0;
  }
}
