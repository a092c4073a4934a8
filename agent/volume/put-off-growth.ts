import { errorCode } from '../../common/errors.ts';
import type { VolumeSpec } from '../api/contract/volumes.ts';

/** What whoever uses a volume can do that cannot grow in use. */
export const growthAdvice =
  'the I/O of these would fail, as that of a device of the fuse driver does: end or restart the pods that use the volume ' +
  '(disconnect other clients); it is enlarged before the next of them starts';

/**
 * Volumes that were told to grow while they could not, and in which words. These are the last that were heard about such
 * a volume: whatever it is told afterwards, with success or not, takes their place. In memory only; whoever wants a volume
 * larger asks again.
 */
export class PutOffGrowth {
  readonly #specs = new Map<string, VolumeSpec>();

  /** Tells a volume something; `growth` is undefined if it is about anything but its size. */
  async noting(volume: string, growth: VolumeSpec | undefined, tell: () => Promise<void>): Promise<void> {
    this.#specs.delete(volume);
    try {
      await tell();
    } catch (error) {
      if (growth !== undefined && errorCode(error) === 'InUse') this.#specs.set(volume, growth);
      throw error;
    }
  }

  get(volume: string): VolumeSpec | undefined {
    return this.#specs.get(volume);
  }

  forget(volume: string): void {
    this.#specs.delete(volume);
  }
}
