import type { NbdTestClient } from './nbd-client.ts';

const slotBytes = 4096;
const slots = 256;

/** The number that each slot holds; 0 where nothing was written. */
export type SlotContent = readonly number[];

/**
 * Writes growing numbers into slots of a volume, one after the other, each flushed, and remembers outside of the volume what
 * was acknowledged: for each slot the last number, and the one that may have followed.
 */
export class RecordingWriter {
  readonly #client: NbdTestClient;
  readonly #acknowledged: number[];
  readonly #issued: number[];
  #next: number;
  #count = 0;
  #stopping = false;
  failure: Error | undefined;
  /** Resolves when it has stopped, or failed. */
  ended: Promise<void> = Promise.resolve();

  constructor(
    client: NbdTestClient,
    before?: { acknowledged: readonly number[]; issued: readonly number[]; next: number },
  ) {
    this.#client = client;
    this.#acknowledged = before ? [...before.acknowledged] : Array.from({ length: slots }, () => 0);
    this.#issued = before ? [...before.issued] : Array.from({ length: slots }, () => 0);
    this.#next = before?.next ?? 1;
  }

  /** Writes that this writer got acknowledged. */
  get acknowledged(): number {
    return this.#count;
  }

  start(): void {
    this.ended = this.#run().catch((error: unknown) => {
      this.failure = error instanceof Error ? error : new Error(String(error));
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.ended;
  }

  /** One that goes on where this one ended, on another client. */
  continueOn(client: NbdTestClient): RecordingWriter {
    return new RecordingWriter(client, {
      acknowledged: this.#acknowledged,
      issued: this.#issued,
      next: this.#next + slots,
    });
  }

  async contentOf(client: NbdTestClient): Promise<SlotContent> {
    const all = await client.read(0, slots * slotBytes);
    return Array.from({ length: slots }, (_, slot) => Number(all.readBigUInt64LE(slot * slotBytes)));
  }

  async missingOn(client: NbdTestClient): Promise<string[]> {
    return this.missingIn(await this.contentOf(client));
  }

  /** Slots that hold less than was acknowledged, or something that was never written there. */
  missingIn(content: SlotContent): string[] {
    return content.flatMap((found, slot) => {
      const [least = 0, most = 0] = [this.#acknowledged[slot], this.#issued[slot]];
      return found >= least && found <= most ? [] : [`slot ${slot} has ${found}, expected ${least} to ${most}`];
    });
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const number = this.#next;
      this.#next += 1;
      const slot = number % slots;
      this.#issued[slot] = number;
      const content = Buffer.alloc(slotBytes);
      content.writeBigUInt64LE(BigInt(number));
      await this.#client.write(slot * slotBytes, content);
      await this.#client.flush();
      this.#acknowledged[slot] = number;
      this.#count += 1;
    }
  }
}
