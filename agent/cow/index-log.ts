import type { RandomAccessFile } from '../core/storage.ts';
import type { BufferLayout } from './buffer-layout.ts';
import { FrameBuilder, frameBytes, payloadOf } from './index-codec.ts';
import { IndexRewrite } from './index-rewrite.ts';
import type { SnapshotMap } from './snapshot-map.ts';
import { encodeSuperblock } from './superblock-codec.ts';

/** Where an index ends: the place and number of its next frame. */
export interface IndexPosition {
  readonly region: 0 | 1;
  readonly generation: number;
  readonly offset: number;
  readonly sequence: number;
}

/**
 * The index on disk, as something that records are added to and committed.
 *
 * `commit` must not be called again before it has ended: that a frame is written only when the one before it is on
 * stable storage is what tells, after a crash, a frame that never was from one that is damaged (see index-reader).
 */
export class IndexLog {
  /** Records for the next commit. */
  readonly records = new FrameBuilder();
  readonly #file: RandomAccessFile;
  readonly #layout: BufferLayout;
  readonly #map: SnapshotMap;
  #region: 0 | 1;
  #generation: number;
  #offset: number;
  #sequence: number;
  /** Up to here there is space, already written, so that a sync need not wait for the file system to allocate it. */
  #zeroedTo: number;
  #rewrite: IndexRewrite | undefined;
  #secondSuperblockDue = false;
  /** The last frame has no other behind it that would prove that it was synced. */
  #unsealed = false;

  constructor(file: RandomAccessFile, layout: BufferLayout, map: SnapshotMap, position: IndexPosition) {
    this.#file = file;
    this.#layout = layout;
    this.#map = map;
    this.#region = position.region;
    this.#generation = position.generation;
    this.#offset = position.offset;
    this.#sequence = position.sequence;
    this.#zeroedTo = position.offset;
  }

  /** Bytes of the index in its region. */
  get bytes(): number {
    return this.#offset - this.#layout.region(this.#region);
  }

  /** It has grown far beyond what it would be if written anew. */
  get rewriteDue(): boolean {
    const needed = this.#map.table.count * bytesPerEntry;
    const least = Math.min(minimumRewriteBytes, this.#layout.regionBytes / 4);
    return !this.#rewrite && !this.#secondSuperblockDue && this.bytes > least + 2 * needed;
  }

  get rewriting(): boolean {
    return this.#rewrite !== undefined;
  }

  /** While it copies, entries of the map must neither move nor go. */
  get copying(): boolean {
    return this.#rewrite?.state === 'copying';
  }

  /** A sync would do something although no record is waiting. */
  get unfinished(): boolean {
    return (this.#rewrite !== undefined && !this.copying) || this.#secondSuperblockDue;
  }

  get unsealed(): boolean {
    return this.#unsealed;
  }

  startRewrite(nextId: number): void {
    const target = { region: this.#region === 0 ? 1 : 0, generation: this.#generation + 1, nextId } as const;
    this.#rewrite = new IndexRewrite(this.#file, this.#map, this.#layout, target);
  }

  async stepRewrite(): Promise<void> {
    if (this.copying) await this.#rewrite?.step();
  }

  /** Gives up a rewriting that still copies, so that entries may move. */
  abortCopying(): void {
    if (this.copying) this.#rewrite = undefined;
  }

  /**
   * Writes the waiting records as one frame and syncs the file, and whatever else was written to it before the call.
   * @param seal write a frame even without records, as a proof that the last one was synced
   * @param settle completes what the map has begun, and returns the id that the next snapshot gets; called when the index
   * has to be rewritten at once because its region is full
   * @throws UnderstudyError Io, NoSpace; the index must not be used any more
   */
  async commit(seal: boolean, settle: () => number): Promise<void> {
    const frameEnd = this.#offset + frameBytes(this.records.payloadBytes);
    if (frameEnd > this.#layout.region(this.#region) + this.#layout.regionBytes) return this.#rewriteNow(settle);
    const rewrite = this.#rewrite;
    const stateBefore = rewrite?.state;
    const secondSuperblock = this.#secondSuperblockDue;
    const written = this.records.payloadBytes > 0;
    if (written || seal) await this.#writeFrame(rewrite);
    if (rewrite && stateBefore === 'durable') await this.#writeSuperblock(0, rewrite.region, rewrite.generation);
    if (secondSuperblock) await this.#writeSuperblock(1, this.#region, this.#generation);
    await this.#file.sync();
    if (written || seal) this.#unsealed = written;
    if (secondSuperblock) await this.#releaseOldRegion();
    if (!rewrite || this.#rewrite !== rewrite) return;
    if (stateBefore === 'copied') rewrite.state = 'durable';
    if (stateBefore === 'durable') this.#switchTo(rewrite);
  }

  /** Housekeeping was not fast enough: the commit consists of writing the whole index anew. */
  async #rewriteNow(settle: () => number): Promise<void> {
    this.#rewrite = undefined;
    const region = this.#region === 0 ? 1 : 0;
    // Both superblocks must point to this index before the other region is touched.
    await this.#writeSuperblock(1, this.#region, this.#generation);
    await this.#file.sync();
    await this.#file.zero(this.#layout.region(region), this.#layout.regionBytes, 'release');
    const nextId = settle();
    const rewrite = new IndexRewrite(this.#file, this.#map, this.#layout, {
      region,
      generation: this.#generation + 1,
      nextId,
    });
    // The map has what these records say, and all of it is about to be written.
    this.records.finish(0, 0);
    await rewrite.writeAll();
    await this.#file.sync();
    await this.#writeSuperblock(0, region, rewrite.generation);
    await this.#file.sync();
    this.#switchTo(rewrite);
    this.#unsealed = true;
  }

  async #writeFrame(rewrite: IndexRewrite | undefined): Promise<void> {
    const frame = this.records.finish(this.#generation, this.#sequence);
    const offset = this.#offset;
    const regionEnd = this.#layout.region(this.#region) + this.#layout.regionBytes;
    if (offset + frame.byteLength > regionEnd) throw new RangeError('the index does not fit into its region');
    this.#sequence += 1;
    this.#offset += frame.byteLength;
    const remembered = rewrite?.add(payloadOf(frame));
    if (this.#zeroedTo < this.#offset) {
      this.#zeroedTo = Math.min(this.#offset + zeroAhead.byteLength, regionEnd);
      await this.#file.write(this.#offset, zeroAhead.subarray(0, this.#zeroedTo - this.#offset));
    }
    await this.#file.write(offset, frame);
    await remembered;
  }

  async #writeSuperblock(copy: 0 | 1, region: 0 | 1, generation: number): Promise<void> {
    const { chunkSizeBytes, regionBytes } = this.#layout;
    const superblock = encodeSuperblock({ chunkSizeBytes, regionBytes, region, generation });
    await this.#file.write(this.#layout.superblock(copy), superblock);
  }

  #switchTo(rewrite: IndexRewrite): void {
    this.#region = rewrite.region;
    this.#generation = rewrite.generation;
    this.#offset = rewrite.offset;
    this.#sequence = rewrite.sequence;
    this.#zeroedTo = rewrite.offset;
    this.#rewrite = undefined;
    this.#secondSuperblockDue = true;
  }

  async #releaseOldRegion(): Promise<void> {
    this.#secondSuperblockDue = false;
    await this.#file.zero(this.#layout.region(this.#region === 0 ? 1 : 0), this.#layout.regionBytes, 'release');
  }
}

const bytesPerEntry = 20;
/** An index below this is not worth rewriting; one of this size is read in a few milliseconds. */
const minimumRewriteBytes = 4 * 1024 * 1024;
const zeroAhead = new Uint8Array(256 * 1024);
