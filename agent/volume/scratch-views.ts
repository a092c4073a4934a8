import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { StorageDirectory } from '../core/storage.ts';
import type { CowDevice } from '../cow/cow-device.ts';
import { ScratchDevice } from '../cow/scratch-device.ts';

/**
 * The writable views of snapshots that mounts use: each a scratch overlay on disk over a snapshot, kept until it is
 * released, also over a restart of the agent (rule 21). While it is open it counts as a reader of the snapshot.
 */
export class ScratchViews {
  readonly #volume: string;
  readonly #cow: CowDevice | undefined;
  readonly #directory: StorageDirectory | undefined;
  readonly #open = new Map<string, Promise<BlockDevice>>();

  constructor(volume: string, cow: CowDevice | undefined, directory: StorageDirectory | undefined) {
    this.#volume = volume;
    this.#cow = cow;
    this.#directory = directory;
  }

  /** The view of that mount, made if it is not there. @throws NotFound, NotReady, Corrupt, NoSpace */
  view(snapshot: string, mount: string): Promise<BlockDevice> {
    const key = keyOf(snapshot, mount);
    const open = this.#open.get(key);
    if (open) return open;
    const opening = this.#openView(snapshot, key);
    this.#open.set(key, opening);
    opening.catch(() => this.#open.delete(key));
    return opening;
  }

  async release(snapshot: string, mount: string): Promise<void> {
    const key = keyOf(snapshot, mount);
    const open = this.#open.get(key);
    this.#open.delete(key);
    await (await open?.catch(() => undefined))?.close();
    if (this.#directory) await ScratchDevice.destroy(this.#directory, key);
  }

  /** Closes the views and keeps their overlays. */
  async close(): Promise<void> {
    const views = [...this.#open.values()];
    this.#open.clear();
    for (const view of views) await (await view.catch(() => undefined))?.close();
  }

  async #openView(snapshot: string, key: string): Promise<BlockDevice> {
    if (!this.#cow || !this.#directory) {
      throw new UnderstudyError('NotFound', `volume ${this.#volume} has no snapshots on this copy`);
    }
    const base = this.#cow.openSnapshot(snapshot);
    try {
      return await ScratchDevice.open({ base, directory: this.#directory, name: key });
    } catch (error) {
      await base.close();
      throw error;
    }
  }
}

/** Neither snapshots nor mounts have a "+" in their names. */
function keyOf(snapshot: string, mount: string): string {
  return `scratch-${snapshot}+${mount}`;
}
