import type { BlockDevice, Completion } from '../core/block-device.ts';

/**
 * What a standby has taken over and its device has not finished.
 *
 * Invariant: whatever fails is reported to `onFailed`, and nothing that `settled` waits for rejects.
 */
export class ApplyQueue {
  readonly #device: BlockDevice;
  readonly #onFailed: (error: unknown) => Promise<void>;
  readonly #onChange: () => void;
  readonly #applying = new Set<Promise<void>>();
  readonly #syncing = new Set<Promise<void>>();
  /** Payload of what is being applied. */
  queuedBytes = 0;

  constructor(device: BlockDevice, onFailed: (error: unknown) => Promise<void>, onChange: () => void) {
    this.#device = device;
    this.#onFailed = onFailed;
    this.#onChange = onChange;
  }

  get applying(): boolean {
    return this.#applying.size > 0;
  }

  /** `over` is called when the device is done with the payload; at once if it is. */
  track(completion: Completion, bytes: number, over: () => void): void {
    if (!completion) return over();
    this.queuedBytes += bytes;
    const applied: Promise<void> = completion
      .catch((error: unknown) => this.#onFailed(error))
      .then(() => {
        this.queuedBytes -= bytes;
        this.#applying.delete(applied);
        over();
        this.#onChange();
      });
    this.#applying.add(applied);
  }

  /** Syncs everything that has been applied or is being applied now, then reports it. */
  sync(report: () => void): Promise<void> {
    const synced: Promise<void> = Promise.all(this.#applying)
      .then(() => this.#device.flush())
      .then(report)
      .catch((error: unknown) => this.#onFailed(error))
      .finally(() => this.#syncing.delete(synced));
    this.#syncing.add(synced);
    return synced;
  }

  /** Resolves when nothing is under way any more. */
  async settled(): Promise<void> {
    while (this.#applying.size + this.#syncing.size > 0) await Promise.all([...this.#applying, ...this.#syncing]);
  }
}
