import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { HoldRequest } from '../api/contract/filling.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { CowDevice } from '../cow/cow-device.ts';
import type { RecordStore, SnapshotHold } from './volume-record.ts';

/**
 * Snapshots of a copy that are kept for volumes on other nodes, which are being filled from them. What holds:
 *
 * - A hold is in the record before anybody relies on it, and is released only by its name.
 * - A snapshot that is held counts as being read: it is not deleted, and the last to be chosen when the buffer is full.
 * - The node that a hold names may read that snapshot, and nothing else of the volume.
 */
export class SnapshotHolds {
  readonly #store: RecordStore;
  readonly #cow: CowDevice | undefined;
  /** By the name of the hold. */
  readonly #readers = new Map<string, BlockDevice>();

  constructor(store: RecordStore, cow: CowDevice | undefined, log: Log) {
    this.#store = store;
    this.#cow = cow;
    for (const hold of store.record.holds ?? []) {
      try {
        this.#readers.set(hold.name, this.#open(hold.snapshot));
      } catch (error) {
        log.warn({ snapshot: hold.snapshot, hold: hold.name, error }, 'a snapshot that is kept for a volume is lost');
      }
    }
  }

  /** The nodes that may read a snapshot here; undefined: any of the cluster, since a hold names none. */
  get nodes(): readonly string[] | undefined {
    const nodes = (this.#store.record.holds ?? []).map(({ node }) => node);
    return nodes.includes(undefined) ? undefined : nodes.filter((node) => node !== undefined);
  }

  /** @throws UnderstudyError NotFound, NotReady, Corrupt (the snapshot is lost), Conflict (of another snapshot), Invalid */
  async hold(snapshot: string, name: string, { node }: HoldRequest): Promise<void> {
    const known = this.#find(name);
    if (known !== undefined && known.snapshot !== snapshot)
      throw new UnderstudyError('Conflict', `hold ${name} is on snapshot ${known.snapshot}: release that first`);
    if (!this.#readers.has(name)) this.#readers.set(name, this.#open(snapshot));
    const hold: SnapshotHold = { name, snapshot, ...(node === undefined ? {} : { node }) };
    await this.#store.update((record) => ({
      ...record,
      holds: [...(record.holds ?? []).filter((other) => other.name !== name), hold],
    }));
  }

  /** One that is not there is no error. */
  async release(snapshot: string, name: string): Promise<void> {
    if (this.#find(name)?.snapshot !== snapshot) return;
    await this.#store.update((record) => ({
      ...record,
      holds: (record.holds ?? []).filter((hold) => hold.name !== name),
    }));
    const reader = this.#readers.get(name);
    this.#readers.delete(name);
    await reader?.close();
  }

  /** @throws UnderstudyError NotFound */
  check(snapshot: string, name: string): void {
    if (this.#find(name)?.snapshot === snapshot) return;
    const { volume } = this.#store.record;
    throw new UnderstudyError('NotFound', `snapshot ${snapshot} of volume ${volume} is not kept for ${name} here`);
  }

  #find(name: string): SnapshotHold | undefined {
    return this.#store.record.holds?.find((hold) => hold.name === name);
  }

  #open(snapshot: string): BlockDevice {
    if (this.#cow) return this.#cow.openSnapshot(snapshot);
    throw new UnderstudyError('Invalid', `volume ${this.#store.record.volume} has no snapshot buffer on this copy`);
  }
}
