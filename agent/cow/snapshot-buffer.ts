import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Completion } from '../core/block-device.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';
import { SyncGroup } from '../store/sync-group.ts';
import { type BufferLayout, maxEntries } from './buffer-layout.ts';
import type { IndexLog } from './index-log.ts';
import { bufferFileName, type OpenedBuffer, openBufferFile, type SnapshotBufferOptions } from './open-buffer.ts';
import type { SlotAllocator } from './slot-allocator.ts';
import type { SnapshotRecord } from './snapshot-info.ts';
import type { Snapshot, SnapshotMap } from './snapshot-map.ts';

/**
 * The copy-on-write store of one volume: the content that chunks had at its snapshots.
 *
 * Holds: one file `<volume>.cow` with two superblocks, two index regions and slots of one chunk each (buffer-layout). The
 * index is a log of records in checksummed frames (index-codec); it is rewritten into the other region when it has grown
 * (index-rewrite).
 *
 * Invariants: the map in memory is what replaying the index yields, the merging of removed layers aside. A record that
 * names a slot is committed together with that slot's content. A slot is used again only after the record that freed it
 * is on stable storage.
 *
 * Survives a crash: everything committed. The last frame, and slots that only it names, may be lost or torn; they are
 * then passed over, and since no overwrite went ahead before its commit had ended, nothing is lost with them.
 *
 * A write or sync that fails makes the buffer unusable for good (rule 15): `failure` says why.
 */
export class SnapshotBuffer {
  readonly map: SnapshotMap;
  readonly slots: SlotAllocator;
  readonly layout: BufferLayout;
  readonly #file: RandomAccessFile;
  readonly #log: Log;
  readonly #index: IndexLog;
  readonly #commits = new SyncGroup(() => this.#commitOnce());
  readonly #slotWrites = new Set<Promise<void>>();
  #nextId: number;
  #sealDue = false;
  #failure: UnderstudyError | undefined;

  private constructor(opened: OpenedBuffer, log: Log) {
    this.map = opened.map;
    this.slots = opened.slots;
    this.layout = opened.layout;
    this.#file = opened.file;
    this.#index = opened.index;
    this.#nextId = opened.nextId;
    this.#log = log;
  }

  /**
   * Opens the buffer of a volume, or creates it. Snapshots that were never Ready are dropped (rule 17).
   * @throws UnderstudyError Io, NoSpace, Invalid (written by a newer version)
   */
  static async open(options: SnapshotBufferOptions): Promise<SnapshotBuffer> {
    const buffer = new SnapshotBuffer(await openBufferFile(options), options.log);
    for (const snapshot of buffer.map.snapshots()) {
      if (snapshot.state !== 'Pending') continue;
      options.log.warn(
        { snapshot: snapshot.record.name },
        'dropping a snapshot that was not complete before the crash',
      );
      buffer.remove(snapshot);
    }
    await buffer.commit();
    return buffer;
  }

  static async destroy(directory: StorageDirectory, name: string): Promise<void> {
    await directory.remove(bufferFileName(name));
  }

  get chunkSizeBytes(): number {
    return this.layout.chunkSizeBytes;
  }

  /** Why nothing can be stored any more. */
  get failure(): UnderstudyError | undefined {
    return this.#failure;
  }

  /** Chunks of data in slots. */
  get usedChunks(): number {
    return this.map.dataChunks;
  }

  // Records: each changes the map at once, and the index with the next commit.

  take(record: SnapshotRecord, sizeBytes: number): Snapshot {
    const snapshot = this.map.take(this.#nextId, record, sizeBytes);
    this.#nextId += 1;
    this.#index.records.take(snapshot.id, record, sizeBytes, false);
    return snapshot;
  }

  markReady(snapshot: Snapshot): void {
    this.map.markReady(snapshot.id);
    this.#index.records.ready(snapshot.id);
  }

  remove(snapshot: Snapshot): void {
    this.map.remove(snapshot.id);
    this.#index.records.remove(snapshot.id);
  }

  invalidate(snapshot: Snapshot, reason: string): void {
    this.map.invalidate(snapshot.id, reason);
    this.#index.records.invalidate(snapshot.id, reason);
  }

  /** @param slot where its content has been written, or `none` if it is all zeroes */
  preserve(chunk: number, slot: number, checksum: number): void {
    const layer = this.map.preserve(chunk, slot, checksum);
    this.#index.records.preserve(layer, chunk, slot, checksum);
  }

  /** Records, and content of slots, that were written before the call are on stable storage when it resolves. */
  commit(): Promise<void> {
    return this.#commits.sync();
  }

  /** @param content one chunk */
  writeSlot(slot: number, content: Uint8Array): Completion {
    const completion = this.#file.write(this.layout.slot(slot), content);
    if (completion) {
      const settled = completion
        .catch(() => {})
        .then(() => {
          this.#slotWrites.delete(settled);
        });
      this.#slotWrites.add(settled);
    }
    return completion;
  }

  /** Reads one chunk; the caller compares its checksum. */
  readSlot(slot: number, target: Uint8Array): Completion {
    return this.#file.read(this.layout.slot(slot), target);
  }

  /**
   * Merges the layers of snapshots that are gone until so many slots are free, or will be with the next commit.
   * @returns false if they are not enough
   */
  reclaim(slots: number): boolean {
    const enough = () =>
      this.slots.available + this.slots.releasing >= slots && this.map.table.count < maxEntries - slots;
    this.#index.abortCopying();
    while (!enough()) if (this.#merge(mergeStep)) return enough();
    return true;
  }

  get unsealed(): boolean {
    return this.#index.unsealed && !this.#failure;
  }

  get busy(): boolean {
    return (
      !this.#failure &&
      (this.map.hasGhosts || this.#index.rewriteDue || this.#index.rewriting || this.#index.unfinished)
    );
  }

  /** Does a small part of what can be done at leisure: merging layers, rewriting the index. */
  async housekeep(): Promise<void> {
    if (this.#failure) return;
    try {
      if (this.#index.copying) await this.#index.stepRewrite();
      else if (this.map.hasGhosts) this.#merge(mergeStep);
      else if (this.#index.rewriteDue) this.#index.startRewrite(this.#nextId);
      else if (this.#index.unfinished) await this.commit();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Proves that the last frame was synced, so that damage to it can be told from a torn write. */
  async seal(): Promise<void> {
    if (!this.#index.unsealed || this.#failure) return;
    this.#sealDue = true;
    await this.commit();
  }

  async close(): Promise<void> {
    try {
      if (!this.#failure) {
        await this.commit();
        await this.seal();
      }
    } finally {
      await this.#commits.idle();
      await Promise.all(this.#slotWrites);
      await this.#file.close();
    }
  }

  #merge(budget: number): boolean {
    return this.map.merge(budget, (slot) => this.slots.release(slot));
  }

  async #commitOnce(): Promise<void> {
    if (this.#failure) throw this.#failure;
    try {
      while (this.#slotWrites.size > 0) await Promise.all(this.#slotWrites);
      const released = this.slots.takeReleased();
      const seal = this.#sealDue;
      this.#sealDue = false;
      await this.#index.commit(seal, () => {
        this.#merge(Number.POSITIVE_INFINITY);
        return this.#nextId;
      });
      this.slots.committed(released);
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** Something that was to be stored could not be: nothing is stored any more. */
  fail(cause: unknown): UnderstudyError {
    if (!this.#failure) {
      this.#failure = new UnderstudyError(
        'Io',
        'the snapshot buffer failed: replace its disk and recreate the buffer',
        {
          cause,
        },
      );
      this.#log.error({ error: String(cause) }, 'the snapshot buffer failed for good');
    }
    return this.#failure;
  }
}

const mergeStep = 4096;
