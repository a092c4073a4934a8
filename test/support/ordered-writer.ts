import type { NbdTestClient } from './nbd-client.ts';
import { waitFor } from './wait-for.ts';

const blockBytes = 4096;

/** Writes n to the first volume, then n to the second, then n + 1 to the first: each when the one before is acknowledged. */
export class OrderedWriter {
  /** Writes that were acknowledged, to both together. */
  acknowledged = 0;
  #going = true;
  readonly #ended: Promise<void>;

  constructor(volumes: readonly [NbdTestClient, NbdTestClient]) {
    this.#ended = this.#run(volumes);
  }

  /** Waits until it has got that much further, or cannot. */
  async advances(writes: number, timeoutMs = 20_000): Promise<boolean> {
    const until = this.acknowledged + writes;
    return await waitFor(() => this.acknowledged >= until, { timeoutMs }).then(
      () => true,
      () => false,
    );
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#ended;
  }

  async #run(volumes: readonly [NbdTestClient, NbdTestClient]): Promise<void> {
    const block = Buffer.alloc(blockBytes);
    for (let number = 1; this.#going; number += 1) {
      block.writeUInt32BE(number);
      for (const volume of volumes) {
        await volume.write(0, block);
        this.acknowledged += 1;
      }
    }
    for (const volume of volumes) volume.close();
  }
}

/** The number that was written last, on a volume or a snapshot of it. */
export async function readNumber(volume: NbdTestClient): Promise<number> {
  return (await volume.read(0, blockBytes)).readUInt32BE();
}
