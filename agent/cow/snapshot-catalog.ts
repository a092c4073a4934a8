import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { none } from './chunk-table.ts';
import { WaitingBarrier } from './cow-operations.ts';
import type { Preserver } from './preserver.ts';
import type { SnapshotBuffer } from './snapshot-buffer.ts';
import { SnapshotDevice } from './snapshot-device.ts';
import type { ChangedExtent, SnapshotInfo, SnapshotRecord, TakeSnapshotOptions } from './snapshot-info.ts';
import type { Snapshot } from './snapshot-map.ts';
import type { WaitingQueue } from './waiting-queue.ts';

export interface SnapshotCatalogOptions {
  readonly base: BlockDevice;
  readonly buffer: SnapshotBuffer;
  readonly preserver: Preserver;
  readonly queue: WaitingQueue;
  readonly maxSnapshots: number;
  /** Everything that was passed to the volume so far is over and on stable storage. */
  readonly syncVolume: () => Promise<void>;
}

/** The snapshots of one volume: taking, deleting, listing, reading and comparing them. CowDevice documents each. */
export class SnapshotCatalog {
  readonly #options: SnapshotCatalogOptions;
  readonly #buffer: SnapshotBuffer;
  readonly #preserver: Preserver;
  readonly #chunkSize: number;
  /** Names of snapshots whose barrier is still to come. */
  readonly #coming = new Map<string, { internal: boolean }>();
  readonly #completing = new Set<Promise<SnapshotInfo>>();
  readonly #openReaders = new Set<SnapshotDevice>();

  constructor(options: SnapshotCatalogOptions) {
    this.#options = options;
    this.#buffer = options.buffer;
    this.#preserver = options.preserver;
    this.#chunkSize = options.buffer.chunkSizeBytes;
  }

  /** Refuses at once, or puts the barrier behind what waits; the promise is for when the snapshot is Ready. */
  take(name: string, options: TakeSnapshotOptions): Promise<SnapshotInfo> {
    const { takenAt, consistency = 'crash', internal = false, attempt, hooks } = options;
    this.#checkRoomFor(name, internal);
    const ids = { ...(attempt === undefined ? {} : { attempt }), ...(hooks === undefined ? {} : { hooks }) };
    const record = { name, takenAt, consistency, internal, ...ids };
    const sizeBytes = this.#options.base.size;
    this.#coming.set(name, { internal });
    return new Promise((resolve, reject) => {
      const barrier = new WaitingBarrier(() => {
        this.#coming.delete(name);
        const completing = this.#complete(record, sizeBytes);
        this.#completing.add(completing);
        completing.then(resolve, reject).finally(() => this.#completing.delete(completing));
      });
      this.#options.queue.submit(barrier);
    });
  }

  async delete(name: string): Promise<void> {
    const snapshot = this.#known(name);
    if (snapshot.readers > 0) {
      throw new UnderstudyError('InUse', `snapshot "${name}" is being read by ${snapshot.readers}: close them first`);
    }
    this.#preserver.remove(snapshot);
    await this.#preserver.commit();
  }

  list(internal: boolean): SnapshotInfo[] {
    const snapshots = this.#buffer.map.snapshots().filter((snapshot) => internal || !snapshot.record.internal);
    return snapshots.map((snapshot) => this.infoOf(snapshot));
  }

  get(name: string): SnapshotInfo | undefined {
    const snapshot = this.#buffer.map.byName(name);
    return snapshot && this.infoOf(snapshot);
  }

  open(name: string): BlockDevice {
    const snapshot = this.#readable(name);
    snapshot.readers += 1;
    const device = new SnapshotDevice({
      base: this.#options.base,
      buffer: this.#buffer,
      snapshot,
      onDamaged: (chunk, reason) => this.#loseReadersOf(snapshot, chunk, reason),
      onClosed: () => {
        snapshot.readers -= 1;
        this.#openReaders.delete(device);
      },
    });
    this.#openReaders.add(device);
    return device;
  }

  changed(since: string, offset: number, length: number, until?: string): ChangedExtent[] {
    const older = this.#readable(since);
    const newer = until === undefined ? undefined : this.#readable(until);
    if (newer && newer.id < older.id) {
      throw new UnderstudyError('Invalid', `snapshot "${until}" is older than "${since}": compare the other way round`);
    }
    const untilBytes = newer?.sizeBytes ?? this.#options.base.size;
    const extents: { length: number; dirty: boolean }[] = [];
    const end = offset + length;
    for (let position = offset; position < end; ) {
      const chunk = Math.floor(position / this.#chunkSize);
      const pieceEnd = Math.min(end, (chunk + 1) * this.#chunkSize);
      const dirty = this.#buffer.map.changed(chunk, older, untilBytes, newer);
      const last = extents.at(-1);
      if (last?.dirty === dirty) last.length += pieceEnd - position;
      else extents.push({ length: pieceEnd - position, dirty });
      position = pieceEnd;
    }
    return extents;
  }

  infoOf(snapshot: Snapshot): SnapshotInfo {
    const { map } = this.#buffer;
    const { record, state, sizeBytes, readers, reason } = snapshot;
    return {
      ...record,
      state,
      sizeBytes,
      readers,
      bufferBytes: map.bufferChunks(snapshot) * this.#chunkSize,
      exclusiveBytes: map.exclusiveChunks(snapshot) * this.#chunkSize,
      ...(reason === undefined ? {} : { reason }),
    };
  }

  /** Closes all readers, and waits for snapshots that are being taken. */
  async close(): Promise<void> {
    for (const reader of this.#openReaders) await reader.close();
    await Promise.allSettled(this.#completing);
  }

  #checkRoomFor(name: string, internal: boolean): void {
    if (this.#buffer.map.byName(name) || this.#coming.has(name)) {
      throw new UnderstudyError('AlreadyExists', `there is a snapshot "${name}" already: choose another name`);
    }
    if (this.#buffer.failure) throw this.#buffer.failure;
    if (this.#preserver.stuck) {
      throw new UnderstudyError('NotReady', "the snapshot buffer's disk does not answer: check it and try again");
    }
    const { maxSnapshots } = this.#options;
    const counted = this.#buffer.map
      .snapshots()
      .filter((snapshot) => !snapshot.record.internal && snapshot.state !== 'Invalid').length;
    const coming = [...this.#coming.values()].filter((snapshot) => !snapshot.internal).length;
    if (!internal && counted + coming >= maxSnapshots) {
      throw new UnderstudyError(
        'NoSpace',
        `there are ${counted + coming} snapshots, as many as may be kept: delete one, or raise maxSnapshots`,
        { labels: { maxSnapshots } },
      );
    }
    if (this.#buffer.map.snapshots().length >= maxListed) {
      throw new UnderstudyError('NoSpace', `${maxListed} snapshots are listed: delete the invalid ones`);
    }
  }

  /** Passes the barrier, at once, and makes the snapshot Ready. */
  async #complete(record: SnapshotRecord, sizeBytes: number): Promise<SnapshotInfo> {
    const snapshot = this.#buffer.take(record, sizeBytes);
    try {
      await Promise.all([this.#options.syncVolume(), this.#preserver.commit()]);
      this.#checkNotLost(snapshot);
      this.#buffer.markReady(snapshot);
      await this.#preserver.commit();
      this.#checkNotLost(snapshot);
      return this.infoOf(snapshot);
    } catch (error) {
      if (this.#buffer.map.byId(snapshot.id)) this.#preserver.remove(snapshot);
      throw error;
    }
  }

  #checkNotLost({ state, reason, record }: Snapshot): void {
    if (state === 'Invalid') {
      throw new UnderstudyError('Conflict', `snapshot "${record.name}" was lost while it was taken: ${reason}`);
    }
  }

  #loseReadersOf(snapshot: Snapshot, chunk: number, reason: string): void {
    const { map } = this.#buffer;
    const entry = map.find(snapshot.id, chunk);
    const readers = entry === none ? [snapshot] : map.readersOf(entry);
    for (const reader of readers) this.#preserver.invalidate(reader, reason);
  }

  /** A snapshot past its barrier and complete, or lost. */
  #known(name: string): Snapshot {
    const snapshot = this.#buffer.map.byName(name);
    if (!snapshot && !this.#coming.has(name)) throw new UnderstudyError('NotFound', `there is no snapshot "${name}"`);
    if (!snapshot || snapshot.state === 'Pending') {
      throw new UnderstudyError('NotReady', `snapshot "${name}" is still being taken: try again when it is Ready`);
    }
    return snapshot;
  }

  #readable(name: string): Snapshot {
    const snapshot = this.#known(name);
    if (snapshot.state === 'Invalid') {
      throw new UnderstudyError('Corrupt', `snapshot "${name}" is lost: ${snapshot.reason}`);
    }
    return snapshot;
  }
}

/** Snapshots listed, invalid ones included. */
const maxListed = 1024;
