import type { IndexVisitor } from './index-codec.ts';
import type { SnapshotRecord } from './snapshot-info.ts';
import { SnapshotMap } from './snapshot-map.ts';

/**
 * Builds the map of snapshots from the records of the index, in their order.
 *
 * Records may be there twice (an index is rewritten while new records are added), and may speak of layers that are not
 * known (removed before the rewriting, or lost with a damaged frame): both are passed over.
 *
 * Pure: no input or output.
 */
export class IndexReplay implements IndexVisitor {
  readonly map: SnapshotMap;
  /** No snapshot had this id or a higher one. */
  unusedId = 1;

  constructor(chunkSizeBytes: number) {
    this.map = new SnapshotMap(chunkSizeBytes);
  }

  preserve(layer: number, chunk: number, slot: number, checksum: number): void {
    this.map.insert(layer, chunk, slot, checksum);
  }

  forget(layer: number, chunk: number): void {
    this.map.forget(layer, chunk);
  }

  take(id: number, record: SnapshotRecord, sizeBytes: number, repeated: boolean): void {
    this.unusedId = Math.max(this.unusedId, id + 1);
    if (this.map.byId(id)) return;
    const namesake = this.map.byName(record.name);
    if (namesake) {
      if (namesake.id > id) return;
      this.remove(namesake.id);
    }
    if (repeated || id <= this.map.lastLayer) this.map.restoreInvalid(id, record, sizeBytes, damageReason);
    else this.map.take(id, record, sizeBytes);
  }

  ready(id: number): void {
    this.map.markReady(id);
  }

  remove(id: number): void {
    this.map.remove(id);
    this.#merge();
  }

  invalidate(id: number, reason: string): void {
    this.map.invalidate(id, reason);
    this.#merge();
  }

  nextId(id: number): void {
    this.unusedId = Math.max(this.unusedId, id);
  }

  /** Records are lost: whatever snapshots there are may miss chunks. */
  damaged(): void {
    for (const snapshot of this.map.snapshots()) this.map.invalidate(snapshot.id, damageReason);
    this.#merge();
  }

  /** At once: the records that follow may use the slots again that this frees. */
  #merge(): void {
    this.map.merge(Number.POSITIVE_INFINITY, () => {});
  }
}

export const damageReason = "the index of the snapshot buffer is damaged: check the buffer's disk";
