/** One write, zero or flush on its way: complete when everyone it waits for has reported. */
export class Acknowledgement {
  readonly promise: Promise<void>;
  #waitingFor = 0;
  #resolve: () => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  expect(): void {
    this.#waitingFor += 1;
  }

  arrived(): void {
    this.#waitingFor -= 1;
    if (this.#waitingFor === 0) this.#resolve();
  }

  fail(error: unknown): void {
    this.#reject(error);
  }
}

/** Acknowledgements in the order of the sequences that complete them. */
export class AcknowledgementQueue {
  #entries: { sequence: number; acknowledgement: Acknowledgement }[] = [];
  #head = 0;

  get size(): number {
    return this.#entries.length - this.#head;
  }

  add(sequence: number, acknowledgement: Acknowledgement): void {
    acknowledgement.expect();
    this.#entries.push({ sequence, acknowledgement });
  }

  /** Everything up to `sequence` has arrived. */
  complete(sequence: number): void {
    const entries = this.#entries;
    let head = this.#head;
    while (head < entries.length) {
      const entry = entries[head];
      if (!entry || entry.sequence > sequence) break;
      head += 1;
      entry.acknowledgement.arrived();
    }
    this.#head = head;
    if (head === entries.length || head > 1024) {
      this.#entries = entries.slice(head);
      this.#head = 0;
    }
  }

  /** What is waiting no longer depends on this peer. */
  completeAll(): void {
    this.complete(Number.POSITIVE_INFINITY);
  }

  /** Hands everything that waits over to a queue whose entries carry no sequence. */
  moveTo(other: AcknowledgementQueue): void {
    for (const entry of this.#entries.slice(this.#head)) other.#entries.push({ ...entry, sequence: 0 });
    this.#entries = [];
    this.#head = 0;
  }

  failAll(error: unknown): void {
    const entries = this.#entries.slice(this.#head);
    this.#entries = [];
    this.#head = 0;
    for (const { acknowledgement } of entries) acknowledgement.fail(error);
  }
}
