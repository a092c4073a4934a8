import { assert } from '../../common/assert.ts';
import { ChunkTable, none } from './chunk-table.ts';
import type { SnapshotRecord, SnapshotState } from './snapshot-info.ts';

/** A snapshot as the map knows it. Its id grows with each snapshot taken and is also the id of its layer. */
export interface Snapshot {
  readonly id: number;
  readonly record: SnapshotRecord;
  /** Size of the volume at the barrier, in bytes. */
  readonly sizeBytes: number;
  state: SnapshotState;
  reason: string | undefined;
  readers: number;
}

interface Layer {
  readonly id: number;
  /** Undefined when its snapshot was deleted or lost: the layer is then merged into the next older one. */
  snapshot: Snapshot | undefined;
  /** How many of its entries with data have their next older entry in which layer; 0 stands for "none older". */
  readonly dataByOlderLayer: Map<number, number>;
}

/**
 * What every snapshot of a volume consists of, as pure state and transitions.
 *
 * Layers stand in the order of their snapshots. The content of a chunk that was overwritten first after snapshot i and
 * before snapshot i+1 lies in layer i, so that:
 * - snapshot i reads a chunk from the first layer of i, i+1, … that has it, else from the volume;
 * - a chunk must be preserved before an overwrite if no layer from the newest snapshot's on has it;
 * - an entry of layer k whose next older entry lies in layer j is read by exactly the snapshots in (j, k].
 *
 * A deleted or invalidated snapshot leaves its layer behind, which counts in all three rules, until `merge` has moved
 * its entries to the next older layer, or freed those that the older layer has itself or no older snapshot needs. That
 * happens in steps, and the answers are right after each of them.
 */
export class SnapshotMap {
  readonly table = new ChunkTable();
  readonly #chunkSize: number;
  readonly #snapshots = new Map<number, Snapshot>();
  #layers: Layer[] = [];
  #newest: Snapshot | undefined;
  #newestChunkLimit = 0;

  constructor(chunkSizeBytes: number) {
    this.#chunkSize = chunkSizeBytes;
  }

  /** The newest snapshot whose content is still kept, or undefined. */
  get newest(): Snapshot | undefined {
    return this.#newest;
  }

  /** True while layers of deleted or lost snapshots are left to merge. */
  get hasGhosts(): boolean {
    return this.#layers.some((layer) => !layer.snapshot);
  }

  /** All snapshots, invalid ones too, oldest first. */
  snapshots(): Snapshot[] {
    return [...this.#snapshots.values()].sort((a, b) => a.id - b.id);
  }

  /** The id of the newest layer, merged or not; 0 if there is none. */
  get lastLayer(): number {
    return this.#layers.at(-1)?.id ?? 0;
  }

  /** Those whose content is kept, oldest first. */
  kept(): Snapshot[] {
    return this.#layers.flatMap((layer) => layer.snapshot ?? []);
  }

  byId(id: number): Snapshot | undefined {
    return this.#snapshots.get(id);
  }

  byName(name: string): Snapshot | undefined {
    for (const snapshot of this.#snapshots.values()) if (snapshot.record.name === name) return snapshot;
    return undefined;
  }

  take(id: number, record: SnapshotRecord, sizeBytes: number): Snapshot {
    assert(id > this.lastLayer, 'the ids of snapshots grow');
    const snapshot: Snapshot = { id, record, sizeBytes, state: 'Pending', reason: undefined, readers: 0 };
    this.#snapshots.set(id, snapshot);
    this.#layers.push({ id, snapshot, dataByOlderLayer: new Map() });
    this.#findNewest();
    return snapshot;
  }

  /** Lists a snapshot of which nothing but the name is left. */
  restoreInvalid(id: number, record: SnapshotRecord, sizeBytes: number, reason: string): void {
    this.#snapshots.set(id, { id, record, sizeBytes, state: 'Invalid', reason, readers: 0 });
  }

  markReady(id: number): void {
    const snapshot = this.#snapshots.get(id);
    if (snapshot?.state === 'Pending') snapshot.state = 'Ready';
  }

  /** Forgets a snapshot. Its preserved chunks stay until they are merged. */
  remove(id: number): void {
    this.#snapshots.delete(id);
    this.#abandonLayer(id);
  }

  /** Its content is lost as a whole; it stays listed, with the reason, until it is removed. */
  invalidate(id: number, reason: string): void {
    const snapshot = this.#snapshots.get(id);
    if (!snapshot || snapshot.state === 'Invalid') return;
    snapshot.state = 'Invalid';
    snapshot.reason = reason;
    this.#abandonLayer(id);
  }

  /** Must the content of this chunk be preserved before it is overwritten? */
  needsPreservation(chunk: number): boolean {
    const newest = this.#newest;
    if (!newest || chunk >= this.#newestChunkLimit) return false;
    const entry = this.table.newestOf(chunk);
    return entry === none || this.table.layerOf(entry) < newest.id;
  }

  /** Adds the content of a chunk to the newest snapshot's layer, and returns the id of that layer. */
  preserve(chunk: number, slot: number, checksum: number): number {
    const newest = this.#newest;
    assert(newest && this.needsPreservation(chunk), 'a chunk is preserved once');
    this.insert(newest.id, chunk, slot, checksum);
    return newest.id;
  }

  /** Adds an entry to a layer that is known; false if there is no such layer, or it has the chunk already. */
  insert(layerId: number, chunk: number, slot: number, checksum: number): boolean {
    const layer = this.#layers.findLast((candidate) => candidate.id === layerId);
    if (!layer || this.#entryIn(layerId, chunk) !== none) return false;
    const entry = this.table.add(layerId, chunk, slot, checksum);
    const older = this.table.olderThan(entry);
    const olderLayer = older === none ? 0 : this.table.layerOf(older);
    if (slot !== none) count(layer, olderLayer, 1);
    const newer = this.table.newerThan(entry);
    if (newer !== none) this.#relinked(newer, olderLayer, layerId);
    return true;
  }

  /**
   * Takes an entry out whose slot turned out never to have been written.
   * @returns the layer that it was in, or undefined if there is no such entry
   */
  forgetSlot(chunk: number, slot: number): number | undefined {
    let entry = this.table.newestOf(chunk);
    while (entry !== none && this.table.slotOf(entry) !== slot) entry = this.table.olderThan(entry);
    if (entry === none) return undefined;
    const layer = this.table.layerOf(entry);
    this.forget(layer, chunk);
    return layer;
  }

  /** Takes an entry out of a layer, if it is there. */
  forget(layerId: number, chunk: number): void {
    const entry = this.#entryIn(layerId, chunk);
    if (entry === none) return;
    this.#unlinked(this.#layerById(layerId), entry);
    this.table.remove(entry);
  }

  /** The entry from which a snapshot reads a chunk, or none if it reads it from the volume. */
  find(id: number, chunk: number): number {
    let found = none;
    let entry = this.table.newestOf(chunk);
    while (entry !== none && this.table.layerOf(entry) >= id) {
      found = entry;
      entry = this.table.olderThan(entry);
    }
    return found;
  }

  /** The snapshots that read this entry. */
  readersOf(entry: number): Snapshot[] {
    const older = this.table.olderThan(entry);
    const after = older === none ? 0 : this.table.layerOf(older);
    const layer = this.table.layerOf(entry);
    return this.kept().filter((snapshot) => snapshot.id > after && snapshot.id <= layer);
  }

  /** The snapshots that read this chunk from the volume, and lose it if it is overwritten. */
  readersOfVolume(chunk: number): Snapshot[] {
    const entry = this.table.newestOf(chunk);
    const after = entry === none ? 0 : this.table.layerOf(entry);
    return this.kept().filter((snapshot) => snapshot.id > after && chunk * this.#chunkSize < snapshot.sizeBytes);
  }

  /**
   * The snapshots to give up when a slot is needed and none is free: the oldest first, those in use later, internal ones
   * last, but no snapshot whose loss would free nothing. A chunk becomes free when all snapshots that read it are given
   * up, so it may take several of them, and may have to be those that are otherwise spared.
   */
  victims(): Snapshot[] {
    const rank = (snapshot: Snapshot) =>
      (snapshot.record.internal ? 2 : 0) + (snapshot.readers > 0 || snapshot.state === 'Pending' ? 1 : 0);
    const candidates = this.kept().sort((a, b) => rank(a) - rank(b) || a.id - b.id);
    const enough = candidates.findIndex((_, index) => this.#freesData(new Set(candidates.slice(0, index + 1))));
    if (enough < 0) return candidates.slice(0, 1);
    const victims = new Set(candidates.slice(0, enough + 1));
    for (const spared of [...victims].reverse()) {
      victims.delete(spared);
      if (!this.#freesData(victims)) victims.add(spared);
    }
    return [...victims];
  }

  /**
   * Did this chunk change after snapshot `since`, and before snapshot `until` if one is given? What lies past the end of
   * the older side counts as changed; `untilSizeBytes` is the size of the newer one.
   */
  changed(chunk: number, since: Snapshot, untilSizeBytes: number, until?: Snapshot): boolean {
    if ((chunk + 1) * this.#chunkSize > since.sizeBytes && untilSizeBytes > since.sizeBytes) return true;
    let entry = this.table.newestOf(chunk);
    while (until && entry !== none && this.table.layerOf(entry) >= until.id) entry = this.table.olderThan(entry);
    return entry !== none && this.table.layerOf(entry) >= since.id;
  }

  /**
   * Merges up to `budget` entries of layers whose snapshots are gone, and reports each slot that nothing uses any more.
   * @returns true when nothing is left to merge
   */
  merge(budget: number, freed: (slot: number) => void): boolean {
    for (let left = budget; left > 0; left -= 1) {
      const index = this.#layers.findIndex((layer) => !layer.snapshot);
      const ghost = this.#layers[index];
      if (!ghost) return true;
      const target = this.#layers[index - 1];
      while (left > 0 && this.#mergeOne(ghost, target, freed)) left -= 1;
      if (this.table.firstOfLayer(ghost.id) === none) this.#layers.splice(index, 1);
    }
    return !this.hasGhosts;
  }

  /** Chunks with data in all layers, those to be merged included. */
  get dataChunks(): number {
    return this.#countData(0, Number.POSITIVE_INFINITY, 0, Number.POSITIVE_INFINITY);
  }

  /** Chunks with data that a snapshot reads from the buffer. */
  bufferChunks(snapshot: Snapshot): number {
    if (snapshot.state === 'Invalid') return 0;
    return this.#countData(snapshot.id, Number.POSITIVE_INFINITY, 0, snapshot.id);
  }

  /** Chunks with data that only this snapshot reads, and that deleting it would free. */
  exclusiveChunks(snapshot: Snapshot): number {
    if (snapshot.state === 'Invalid') return 0;
    const kept = this.kept();
    const index = kept.indexOf(snapshot);
    const newer = kept[index + 1]?.id ?? Number.POSITIVE_INFINITY;
    return this.#countData(snapshot.id, newer, kept[index - 1]?.id ?? 0, snapshot.id);
  }

  #mergeOne(ghost: Layer, target: Layer | undefined, freed: (slot: number) => void): boolean {
    const entry = this.table.firstOfLayer(ghost.id);
    if (entry === none) return false;
    const older = this.table.olderThan(entry);
    const olderLayer = older === none ? 0 : this.table.layerOf(older);
    if (!target || olderLayer === target.id) {
      const slot = this.table.slotOf(entry);
      this.#unlinked(ghost, entry);
      this.table.removeFirstOfLayer(ghost.id);
      if (slot !== none) freed(slot);
      return true;
    }
    const newer = this.table.newerThan(entry);
    if (this.table.slotOf(entry) !== none) {
      count(ghost, olderLayer, -1);
      count(target, olderLayer, 1);
    }
    if (newer !== none) this.#relinked(newer, ghost.id, target.id);
    this.table.moveFirstOfLayer(ghost.id, target.id);
    return true;
  }

  /** Entries with data in layers [from, to) whose next older entry lies in layers [olderFrom, olderTo). */
  #countData(from: number, to: number, olderFrom: number, olderTo: number): number {
    let sum = 0;
    for (const layer of this.#layers) {
      if (layer.id < from || layer.id >= to) continue;
      for (const [older, entries] of layer.dataByOlderLayer) if (older >= olderFrom && older < olderTo) sum += entries;
    }
    return sum;
  }

  /** Is there a chunk with data that only these snapshots read? */
  #freesData(given: ReadonlySet<Snapshot>): boolean {
    const others = this.kept().filter((snapshot) => !given.has(snapshot));
    return this.#layers.some((layer) =>
      [...layer.dataByOlderLayer.keys()].some((older) => !others.some(({ id }) => id > older && id <= layer.id)),
    );
  }

  /** Keeps the counts when an entry is about to leave its chain. */
  #unlinked(layer: Layer, entry: number): void {
    const older = this.table.olderThan(entry);
    const olderLayer = older === none ? 0 : this.table.layerOf(older);
    if (this.table.slotOf(entry) !== none) count(layer, olderLayer, -1);
    const newer = this.table.newerThan(entry);
    if (newer !== none) this.#relinked(newer, layer.id, olderLayer);
  }

  /** Keeps the counts when the next older entry of `entry` changes its layer. */
  #relinked(entry: number, fromLayer: number, toLayer: number): void {
    if (this.table.slotOf(entry) === none) return;
    const layer = this.#layerById(this.table.layerOf(entry));
    count(layer, fromLayer, -1);
    count(layer, toLayer, 1);
  }

  #entryIn(layerId: number, chunk: number): number {
    let entry = this.table.newestOf(chunk);
    while (entry !== none && this.table.layerOf(entry) > layerId) entry = this.table.olderThan(entry);
    return entry !== none && this.table.layerOf(entry) === layerId ? entry : none;
  }

  #layerById(id: number): Layer {
    const layer = this.#layers.find((candidate) => candidate.id === id);
    assert(layer, `layer ${id} of an entry is known`);
    return layer;
  }

  #abandonLayer(id: number): void {
    const layer = this.#layers.find((candidate) => candidate.id === id);
    if (!layer) return;
    layer.snapshot = undefined;
    this.#findNewest();
  }

  #findNewest(): void {
    this.#newest = this.#layers.findLast((layer) => layer.snapshot)?.snapshot;
    this.#newestChunkLimit = Math.ceil((this.#newest?.sizeBytes ?? 0) / this.#chunkSize);
  }
}

function count(layer: Layer, olderLayer: number, by: number): void {
  const value = (layer.dataByOlderLayer.get(olderLayer) ?? 0) + by;
  assert(value >= 0, 'no negative count of entries');
  if (value === 0) layer.dataByOlderLayer.delete(olderLayer);
  else layer.dataByOlderLayer.set(olderLayer, value);
}
