import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Range } from '../core/range.ts';
import type { CowDevice } from '../cow/cow-device.ts';

/** What is known before the first write of a restore. */
export interface RestoreOutlook {
  /** The size of the volume when the snapshot was taken. */
  readonly sizeBytes: number;
  /** What has changed since, to the chunk. */
  readonly changedBytes: number;
  /** What the buffer has to take in of it, for the sake of newer snapshots. */
  readonly neededBytes: number;
  readonly freeBytes: number;
  /** The snapshot that keeps what was there before: absent, or how much has changed since it. */
  readonly changedSinceBefore: number | undefined;
}

/** The copy that keeps the snapshot, here or at the other end of a connection. Offsets and lengths are in bytes. */
export interface RestoreSource {
  /** @throws UnderstudyError NotFound, NotReady, Corrupt (the snapshot is lost), Invalid (no buffer) */
  look(snapshot: string, before: string | undefined): Promise<RestoreOutlook>;
  /** The ranges within this one that differ from the snapshot, or did once. */
  changed(snapshot: string, range: Range): Promise<Range[]>;
  /** What the snapshot holds. */
  read(snapshot: string, range: Range): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Looked through at once, a chunk each 64 KiB; a list of the changed ranges in it stays below 512 KiB of text. */
export const restoreWindowBytes = 512 * 1024 * 1024;

/** The snapshots of a copy in this process. The one that is read has a reader until the source is closed. */
export class CowRestoreSource implements RestoreSource {
  readonly #cow: CowDevice | undefined;
  readonly #volume: string;
  readonly #clock: Clock;
  #open: { readonly snapshot: string; readonly device: BlockDevice } | undefined;

  constructor(cow: CowDevice | undefined, volume: string, clock: Clock) {
    this.#cow = cow;
    this.#volume = volume;
    this.#clock = clock;
  }

  async look(snapshot: string, before: string | undefined): Promise<RestoreOutlook> {
    const cow = this.#buffer();
    const { sizeBytes } = this.#ready(snapshot);
    const all = cow.listSnapshots({ internal: true });
    const newest = all.filter(({ state }) => state === 'Ready').at(-1)?.name ?? snapshot;
    const changedBytes = await this.#countChanged(snapshot);
    const { capacityBytes, usedBytes } = cow.usage();
    const keeper = before === undefined ? undefined : cow.snapshot(before);
    if (keeper !== undefined && before !== undefined) this.#ready(before);
    return {
      sizeBytes,
      changedBytes,
      neededBytes: changedBytes - (await this.#countChanged(newest)),
      freeBytes: capacityBytes - usedBytes,
      changedSinceBefore: keeper === undefined || before === undefined ? undefined : await this.#countChanged(before),
    };
  }

  async changed(snapshot: string, { offset, length }: Range): Promise<Range[]> {
    const ranges: Range[] = [];
    let position = offset;
    for (const extent of this.#buffer().changedExtents(snapshot, offset, length)) {
      if (extent.dirty) ranges.push({ offset: position, length: extent.length });
      position += extent.length;
    }
    return ranges;
  }

  /** The ranges within this one that do not certainly read as zeroes. */
  async data(snapshot: string, { offset, length }: Range): Promise<Range[]> {
    const ranges: Range[] = [];
    let position = offset;
    for (const extent of this.#device(snapshot).extents(offset, length)) {
      if (!extent.zero) ranges.push({ offset: position, length: extent.length });
      position += extent.length;
    }
    return ranges;
  }

  /** The size of the volume when a snapshot was taken. @throws UnderstudyError NotFound, NotReady, Corrupt, Invalid */
  sizeBytes(snapshot: string): number {
    return this.#ready(snapshot).sizeBytes;
  }

  async read(snapshot: string, { offset, length }: Range): Promise<Uint8Array> {
    const content = Buffer.allocUnsafeSlow(length);
    await this.#device(snapshot).read(offset, content);
    return content;
  }

  async close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    await open?.device.close();
  }

  #device(snapshot: string): BlockDevice {
    if (this.#open?.snapshot !== snapshot) {
      void this.#open?.device.close();
      this.#open = { snapshot, device: this.#buffer().openSnapshot(snapshot) };
    }
    return this.#open.device;
  }

  async #countChanged(snapshot: string): Promise<number> {
    const { size } = this.#buffer();
    let bytes = 0;
    for (let offset = 0; offset < size; offset += restoreWindowBytes) {
      const length = Math.min(restoreWindowBytes, size - offset);
      for (const range of await this.changed(snapshot, { offset, length })) bytes += range.length;
      // Others have their turn, however large the volume is.
      await new Promise<void>((resolve) => this.#clock.soon(resolve));
    }
    return bytes;
  }

  #ready(snapshot: string) {
    const info = this.#buffer().snapshot(snapshot);
    if (info === undefined || info.internal)
      throw new UnderstudyError('NotFound', `volume ${this.#volume} has no snapshot ${snapshot} on this copy`);
    if (info.state === 'Invalid') throw new UnderstudyError('Corrupt', `snapshot ${snapshot} is lost: ${info.reason}`);
    if (info.state !== 'Ready') throw new UnderstudyError('NotReady', `snapshot ${snapshot} is still being taken`);
    return info;
  }

  #buffer(): CowDevice {
    if (this.#cow) return this.#cow;
    throw new UnderstudyError('Invalid', `volume ${this.#volume} has no snapshot buffer on this copy`);
  }
}
