import type { RandomAccessFile } from '../core/storage.ts';
import type { BufferLayout } from './buffer-layout.ts';
import { FrameBuilder } from './index-codec.ts';
import type { SnapshotMap } from './snapshot-map.ts';

/**
 * Writing the index anew, into the other region, while records go on being added.
 *
 * copying:  the snapshots as they were at the start, then all entries of the map, some at a time. Records committed
 *           meanwhile go to the old index, and are remembered. Entries may be added under way (they are remembered, too,
 *           and replaying a record twice does no harm), but none may be moved or removed.
 * copied:   the remembered records are written, and each commit now writes its records to both indexes.
 * durable:  a commit has synced the whole new index. The next one writes the superblock that points to it.
 *
 * The region is cleared first: an earlier attempt that was given up may have left frames of the same generation there.
 * A crash at any moment finds a superblock that points to an index that is whole.
 */
export class IndexRewrite {
  readonly region: 0 | 1;
  readonly generation: number;
  state: 'copying' | 'copied' | 'durable' = 'copying';
  readonly #file: RandomAccessFile;
  readonly #map: SnapshotMap;
  readonly #end: number;
  readonly #builder = new FrameBuilder();
  readonly #firstId: number;
  #remembered: Uint8Array[] = [];
  readonly #start: number;
  #cleared = false;
  #offset: number;
  #sequence = 0;
  #entry = 0;

  constructor(
    file: RandomAccessFile,
    map: SnapshotMap,
    layout: BufferLayout,
    target: { readonly region: 0 | 1; readonly generation: number; readonly nextId: number },
  ) {
    this.#file = file;
    this.#map = map;
    this.region = target.region;
    this.generation = target.generation;
    this.#start = layout.region(target.region);
    this.#offset = this.#start;
    this.#end = this.#offset + layout.regionBytes;
    this.#firstId = target.nextId;
    this.#snapshots(false);
  }

  /** Where the next frame goes, and its number. */
  get offset(): number {
    return this.#offset;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** Writes the next part. Resolves when it is written, not synced. */
  async step(): Promise<void> {
    if (!this.#cleared) {
      this.#cleared = true;
      await this.#file.zero(this.#start, this.#end - this.#start, 'release');
      return;
    }
    const complete = this.#encodeEntries();
    await this.#writeFrame();
    if (!complete) return;
    await this.#writeRemembered();
    // Empty: all before it will be synced before the index is used, and this proves it to whoever reads it.
    await this.#writeFrame();
    await this.#writeRemembered();
    this.state = 'copied';
  }

  /**
   * Writes everything at once, into a region that is clear. What is written is the map at the time of the call.
   * Resolves when it is written, not synced.
   */
  async writeAll(): Promise<void> {
    const frames: { offset: number; frame: Uint8Array }[] = [];
    for (let complete = false; !complete; ) {
      complete = this.#encodeEntries();
      frames.push(this.#nextFrame());
    }
    frames.push(this.#nextFrame());
    this.state = 'copied';
    for (const { offset, frame } of frames) await this.#file.write(offset, frame);
  }

  /** The records of a commit to the old index: kept for later, or written to the new one, too. */
  async add(payload: Uint8Array): Promise<void> {
    if (this.state === 'copying') {
      this.#remembered.push(payload);
      return;
    }
    this.#builder.append(payload);
    await this.#writeFrame();
  }

  /** Adds the next entries, and after the last of them what ends an index; true if that is done. */
  #encodeEntries(): boolean {
    const { table } = this.#map;
    const end = Math.min(this.#entry + entriesPerStep, table.upperBound);
    for (; this.#entry < end; this.#entry += 1) {
      const entry = this.#entry;
      if (!table.isUsed(entry)) continue;
      this.#builder.preserve(table.layerOf(entry), table.chunkOf(entry), table.slotOf(entry), table.checksumOf(entry));
    }
    if (this.#entry < table.upperBound) return false;
    this.#snapshots(true);
    this.#builder.nextId(this.#firstId);
    return true;
  }

  #snapshots(repeated: boolean): void {
    for (const { id, record, sizeBytes, state, reason } of this.#map.snapshots()) {
      if (id >= this.#firstId) continue;
      this.#builder.take(id, record, sizeBytes, repeated);
      if (repeated || state === 'Pending') continue;
      this.#builder.ready(id);
      if (state === 'Invalid') this.#builder.invalidate(id, reason ?? '');
    }
  }

  async #writeRemembered(): Promise<void> {
    while (this.#remembered.length > 0) {
      const payloads = this.#remembered;
      this.#remembered = [];
      for (const payload of payloads) {
        if (this.#builder.payloadBytes > rememberedPerFrame) await this.#writeFrame();
        this.#builder.append(payload);
      }
      await this.#writeFrame();
    }
  }

  async #writeFrame(): Promise<void> {
    const { offset, frame } = this.#nextFrame();
    await this.#file.write(offset, frame);
  }

  #nextFrame(): { offset: number; frame: Uint8Array } {
    const frame = this.#builder.finish(this.generation, this.#sequence);
    const offset = this.#offset;
    if (offset + frame.byteLength > this.#end) throw new RangeError('the index does not fit into its region');
    this.#sequence += 1;
    this.#offset += frame.byteLength;
    return { offset, frame };
  }
}

const entriesPerStep = 4096;
const rememberedPerFrame = 1024 * 1024;
