import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { StorageDirectory } from '../core/storage.ts';
import type { BufferUsage, ChangedExtent, SnapshotInfo, TakeSnapshotOptions } from './snapshot-info.ts';

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
  /** How long a write may wait for its preservation before it goes on and the snapshots that need it are lost. 3 s. */
  readonly deadlineMs?: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of each snapshot that is lost, once. */
  readonly onInvalidated?: (snapshot: SnapshotInfo) => void;
}

/** Signatures first; the behaviour follows within the hour. */
export class CowDevice implements BlockDevice {
  readonly #base: BlockDevice;

  private constructor(base: BlockDevice) {
    this.#base = base;
  }

  static async open(options: CowDeviceOptions): Promise<CowDevice> {
    return new CowDevice(options.base);
  }

  /** Removes the buffer of a volume; one that is not there is no error. */
  static async destroy(directory: StorageDirectory, name: string): Promise<void> {
    await directory.remove(`${name}.cow`);
  }

  get size(): number {
    return this.#base.size;
  }

  get blockSize(): number {
    return this.#base.blockSize;
  }

  read(offset: number, target: Uint8Array): Completion {
    return this.#base.read(offset, target);
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    return this.#base.write(offset, data, options);
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    return this.#base.writeZeroes(offset, length, options);
  }

  trim(offset: number, length: number): Completion {
    return this.#base.trim(offset, length);
  }

  flush(): Completion {
    return this.#base.flush();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#base.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#base.close();
  }

  /** The call is the barrier; resolves when Ready. @throws AlreadyExists, NoSpace, Io, Conflict (lost meanwhile) */
  takeSnapshot(_name: string, _options: TakeSnapshotOptions): Promise<SnapshotInfo> {
    return Promise.reject(new UnderstudyError('NotReady', 'snapshots are not implemented yet'));
  }

  /** Durable when it resolves. @throws NotFound, InUse (open readers), NotReady (still being taken) */
  deleteSnapshot(_name: string): Promise<void> {
    return Promise.reject(new UnderstudyError('NotReady', 'snapshots are not implemented yet'));
  }

  /** Oldest first; internal ones only if asked. */
  listSnapshots(_options?: { internal?: boolean }): SnapshotInfo[] {
    return [];
  }

  /** The snapshot of that name (internal ones too), or undefined. */
  snapshot(_name: string): SnapshotInfo | undefined {
    return undefined;
  }

  /** A read-only device over a Ready snapshot; it counts as a reader until closed. @throws NotFound, NotReady, Corrupt */
  openSnapshot(name: string): BlockDevice {
    throw new UnderstudyError('NotFound', `no snapshot "${name}"`);
  }

  /** What differs between snapshot `since` and the live volume, or the newer snapshot `until`; covers the range exactly. */
  changedExtents(_since: string, _offset: number, length: number, _until?: string): ChangedExtent[] {
    return [{ length, dirty: true }];
  }

  usage(): BufferUsage {
    return { usedBytes: 0, capacityBytes: 0, maxSnapshots: 0 };
  }
}
