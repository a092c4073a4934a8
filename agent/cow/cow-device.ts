import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { maxChunkSizeBytes } from './chunk-content.ts';
import { type OperationHost, WaitingRead, WaitingWrite, WaitingZeroes } from './cow-operations.ts';
import { LeisureTask } from './leisure-task.ts';
import { LossRecord } from './loss-record.ts';
import { Preserver } from './preserver.ts';
import { SnapshotBuffer } from './snapshot-buffer.ts';
import { SnapshotCatalog } from './snapshot-catalog.ts';
import type { BufferUsage, ChangedExtent, SnapshotInfo, TakeSnapshotOptions } from './snapshot-info.ts';
import type { Snapshot } from './snapshot-map.ts';
import { WaitingQueue } from './waiting-queue.ts';

export interface CowDeviceOptions {
  readonly base: BlockDevice;
  /** Where the buffer lives: a folder on another disk than the volume's. */
  readonly directory: StorageDirectory;
  /**
   * A folder on the volume's own disk. When the buffer's disk fails or is stuck, the loss of snapshots is recorded
   * there before the first unpreserved overwrite; without it such a loss is forgotten by a crash.
   */
  readonly volumeDirectory?: StorageDirectory;
  /** The volume's name; the buffer's files are named after it. */
  readonly name: string;
  /** Bytes of preserved data that the buffer may hold. */
  readonly capacityBytes: number;
  /** Snapshots kept at a time, internal and invalid ones not counted. */
  readonly maxSnapshots: number;
  /** A power of two, 4096 or more; fixed when the buffer is created. 64 KiB if not given. */
  readonly chunkSizeBytes?: number;
  /** Size of each of the two index regions; fixed when the buffer is created. */
  readonly indexRegionBytes?: number;
  /** How long a write may wait for its preservation before it goes on and the snapshots that need it are lost. 3 s. */
  readonly deadlineMs?: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of each snapshot that is lost, once. */
  readonly onInvalidated?: (snapshot: SnapshotInfo) => void;
}

/**
 * A block device that keeps snapshots of the one below it: before a chunk is first overwritten after the newest snapshot,
 * its old content is put into the buffer, once, whatever the number of snapshots.
 *
 * A write that overwrites nothing that a snapshot needs goes straight through, and is done when the volume is done with
 * it. Others wait for the preservation of their chunks, in a queue that keeps the order of overlapping operations; all
 * that wait at a time share one sync of the buffer.
 *
 * State on disk, its invariants, and what survives a crash: see SnapshotBuffer and LossRecord.
 */
export class CowDevice implements BlockDevice {
  readonly #options: CowDeviceOptions;
  readonly #base: BlockDevice;
  readonly #buffer: SnapshotBuffer;
  readonly #preserver: Preserver;
  readonly #queue: WaitingQueue;
  readonly #host: OperationHost;
  readonly #chunkSize: number;
  /** Operations that the volume has not finished yet. */
  readonly #issued = new Set<Promise<void>>();
  readonly #catalog: SnapshotCatalog;
  readonly #housekeeping: LeisureTask;
  readonly #sealing: LeisureTask;
  #closed = false;

  private constructor(options: CowDeviceOptions, buffer: SnapshotBuffer, losses: LossRecord) {
    const { base, clock, log, deadlineMs = defaultDeadlineMs } = options;
    this.#options = options;
    this.#base = base;
    this.#buffer = buffer;
    this.#chunkSize = buffer.chunkSizeBytes;
    this.#queue = new WaitingQueue(buffer.chunkSizeBytes);
    const onLost = (snapshot: Snapshot) => {
      options.onInvalidated?.(this.#catalog.infoOf(snapshot));
      this.#keepHouse();
    };
    const onProgress = () => {
      this.#queue.pump();
      this.#keepHouse();
    };
    this.#preserver = new Preserver({ base, buffer, losses, clock, log, deadlineMs, onLost, onProgress });
    this.#catalog = new SnapshotCatalog({
      base,
      buffer,
      preserver: this.#preserver,
      queue: this.#queue,
      maxSnapshots: options.maxSnapshots,
      syncVolume: () => this.#syncVolume(),
    });
    this.#housekeeping = new LeisureTask(clock, 0, async () => {
      await buffer.housekeep();
      await this.#noticeFailure();
      this.#keepHouse();
    });
    this.#sealing = new LeisureTask(clock, sealAfterMs, async () => {
      await buffer.seal().catch(() => {});
      await this.#noticeFailure();
    });
    const issued = this.#issued;
    this.#host = {
      base,
      preserver: this.#preserver,
      chunkSizeBytes: buffer.chunkSizeBytes,
      issue: (completion) => this.#issue(completion),
      get quiet() {
        return issued.size === 0;
      },
      progress: onProgress,
    };
  }

  /**
   * Opens the buffer of a volume, or creates it.
   * @throws UnderstudyError Invalid (chunk size, buffer of a newer version), Io, NoSpace
   */
  static async open(options: CowDeviceOptions): Promise<CowDevice> {
    const { directory, name, capacityBytes, chunkSizeBytes = defaultChunkSizeBytes, indexRegionBytes, log } = options;
    if (!isChunkSize(chunkSizeBytes)) {
      throw new UnderstudyError('Invalid', `chunk size ${chunkSizeBytes}: expected a power of two from 4 KiB to 4 MiB`);
    }
    const regionBytes = indexRegionBytes === undefined ? {} : { regionBytes: indexRegionBytes };
    const buffer = await SnapshotBuffer.open({ directory, name, capacityBytes, chunkSizeBytes, log, ...regionBytes });
    const losses = new LossRecord(options.volumeDirectory, name, log);
    try {
      const recorded = await losses.load();
      const device = new CowDevice(options, buffer, losses);
      await device.#applyLosses(recorded);
      await losses.clear(losses.version);
      device.#keepHouse();
      return device;
    } catch (error) {
      await losses.settled();
      await buffer.close().catch(() => {});
      throw error;
    }
  }

  /**
   * Removes the buffer of a volume with its snapshots; one that is not there is no error.
   * @throws UnderstudyError Io
   */
  static async destroy(directory: StorageDirectory, name: string, volumeDirectory?: StorageDirectory): Promise<void> {
    await SnapshotBuffer.destroy(directory, name);
    await LossRecord.destroy(volumeDirectory, name);
  }

  /**
   * To be called before a volume is written to without its buffer: whatever the buffer holds is lost with the first write.
   * @throws UnderstudyError Io
   */
  static async abandonBuffer(volumeDirectory: StorageDirectory, name: string): Promise<void> {
    await LossRecord.recordAll(volumeDirectory, name);
  }

  get size(): number {
    return this.#base.size;
  }

  get blockSize(): number {
    return this.#base.blockSize;
  }

  read(offset: number, target: Uint8Array): Completion {
    if (this.#closed) return this.#refuse();
    const read = () => this.#base.read(offset, target);
    if (this.#queue.isEmpty) return read();
    const operation = new WaitingRead(offset, target.byteLength, read);
    if (!this.#queue.writesTo(offset, operation.end)) return read();
    this.#queue.submit(operation);
    return operation.promise;
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    if (this.#closed) return this.#refuse();
    if (this.#isFree(offset, data.byteLength)) return this.#issue(this.#base.write(offset, data, options));
    const operation = new WaitingWrite(this.#host, offset, data.byteLength, () =>
      this.#base.write(offset, data, options),
    );
    this.#queue.submit(operation);
    return operation.promise;
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    return this.#zero(offset, length, (start, bytes) => this.#base.writeZeroes(start, bytes, options));
  }

  trim(offset: number, length: number): Completion {
    return this.#zero(offset, length, (start, bytes) => this.#base.trim(start, bytes));
  }

  flush(): Completion {
    return this.#closed ? this.#refuse() : this.#base.flush();
  }

  extents(offset: number, length: number): Extent[] {
    this.#checkOpen();
    return this.#base.extents(offset, length);
  }

  /** Waits for everything under way, syncs the volume and the buffer, and closes both. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#queue.drained();
    await this.#catalog.close();
    await Promise.allSettled(this.#issued);
    await Promise.all([this.#housekeeping.stop(), this.#sealing.stop()]);
    this.#preserver.stop();
    await this.#buffer.close().catch((error: unknown) => {
      this.#options.log.error({ error: String(error) }, 'the snapshot buffer could not be closed in order');
    });
    await this.#base.close();
  }

  /**
   * Takes a snapshot. The call is the barrier: the snapshot holds exactly the operations called before. It resolves when
   * the snapshot is Ready (rule 17).
   * @throws UnderstudyError AlreadyExists; NoSpace (as many snapshots as may be kept); NotReady (the buffer's disk does
   * not answer); Io; Conflict (lost again before it was Ready)
   */
  takeSnapshot(name: string, options: TakeSnapshotOptions): Promise<SnapshotInfo> {
    try {
      this.#checkOpen();
      return this.#catalog.take(name, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Deletes a snapshot. No data is copied; durable when it resolves.
   * @throws UnderstudyError NotFound, InUse (open readers), NotReady (still being taken), Io
   */
  async deleteSnapshot(name: string): Promise<void> {
    this.#checkOpen();
    await this.#catalog.delete(name);
    this.#keepHouse();
  }

  /** Oldest first; internal ones only if asked. */
  listSnapshots(options: { internal?: boolean } = {}): SnapshotInfo[] {
    return this.#catalog.list(options.internal ?? false);
  }

  /** The snapshot of that name, internal ones too, or undefined. */
  snapshot(name: string): SnapshotInfo | undefined {
    return this.#catalog.get(name);
  }

  /**
   * A read-only device over a snapshot, which counts as its reader until it is closed.
   * @throws UnderstudyError NotFound, NotReady (still being taken), Corrupt (lost)
   */
  openSnapshot(name: string): BlockDevice {
    this.#checkOpen();
    return this.#catalog.open(name);
  }

  /**
   * What differs between snapshot `since` and the live volume, or the newer snapshot `until`, to the chunk; the extents
   * cover the range exactly. A chunk that was overwritten with the same content counts as changed.
   * @throws UnderstudyError NotFound, NotReady, Corrupt (one of them is lost); Invalid (`until` is the older one)
   */
  changedExtents(since: string, offset: number, length: number, until?: string): ChangedExtent[] {
    this.#checkOpen();
    return this.#catalog.changed(since, offset, length, until);
  }

  usage(): BufferUsage {
    const stuck = this.#preserver.stuck ? "the snapshot buffer's disk does not answer" : undefined;
    const failure = this.#buffer.failure ? errorMessage(this.#buffer.failure) : stuck;
    return {
      usedBytes: this.#buffer.usedChunks * this.#chunkSize,
      capacityBytes: this.#options.capacityBytes,
      maxSnapshots: this.#options.maxSnapshots,
      ...(failure === undefined ? {} : { failure }),
    };
  }

  // The parts of the operations above.

  #zero(offset: number, length: number, issue: (offset: number, length: number) => Completion): Completion {
    if (this.#closed) return this.#refuse();
    if (this.#isFree(offset, length)) return this.#issue(issue(offset, length));
    const operation = new WaitingZeroes(this.#host, offset, length, issue);
    this.#queue.submit(operation);
    return operation.promise;
  }

  /** Nothing that waits is in the way, and no snapshot needs what is there. */
  #isFree(offset: number, length: number): boolean {
    if (this.#queue.blocksWrite(offset, offset + length)) return false;
    const first = Math.floor(offset / this.#chunkSize);
    const last = Math.floor((offset + length - 1) / this.#chunkSize);
    if (this.#preserver.inactive) return true;
    if (last - first > manyChunks) return false;
    for (let chunk = first; chunk <= last; chunk += 1) if (!this.#preserver.isReady(chunk)) return false;
    return true;
  }

  #issue(completion: Completion): Completion {
    if (completion === undefined) return undefined;
    const settled = completion.then(
      () => {
        this.#issued.delete(settled);
      },
      () => {
        this.#issued.delete(settled);
      },
    );
    this.#issued.add(settled);
    return completion;
  }

  /** Everything that was passed to the volume so far is over and on stable storage. */
  async #syncVolume(): Promise<void> {
    await Promise.allSettled(this.#issued);
    await this.#base.flush();
  }

  async #applyLosses(losses: ReadonlyMap<number, string> | undefined): Promise<void> {
    const { log } = this.#options;
    if (!losses) log.error({}, 'the record of lost snapshots is damaged: every snapshot counts as lost');
    for (const snapshot of this.#buffer.map.snapshots()) {
      const reason = losses
        ? (losses.get(snapshot.id) ?? losses.get(LossRecord.all))
        : 'the record of losses is damaged';
      if (reason !== undefined) this.#preserver.invalidate(snapshot, reason);
    }
    await this.#preserver.commit();
  }

  /** Lets the buffer do what there is to do, a little at a time. */
  #keepHouse(): void {
    if (this.#closed) return;
    if (this.#buffer.busy) this.#housekeeping.schedule();
    if (this.#buffer.unsealed) this.#sealing.schedule();
  }

  /** A buffer that failed while nobody wrote has lost its snapshots all the same: say so now. */
  async #noticeFailure(): Promise<void> {
    if (this.#buffer.failure) await this.#preserver.commit().catch(() => {});
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError();
  }

  #refuse(): Promise<void> {
    return Promise.reject(closedError());
  }
}

function closedError(): UnderstudyError {
  return new UnderstudyError('Closed', 'the device is closed');
}

function isChunkSize(bytes: number): boolean {
  return Number.isInteger(Math.log2(bytes)) && bytes >= 4096 && bytes <= maxChunkSizeBytes;
}

const defaultChunkSizeBytes = 64 * 1024;
/** Below the acknowledgement timeout of a mirror, so that a slow buffer costs snapshots rather than the mirror. */
const defaultDeadlineMs = 3_000;
/** More chunks than this are not looked through before an operation on all of them is queued. */
const manyChunks = 1024;
const sealAfterMs = 1_000;
