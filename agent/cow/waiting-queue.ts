interface Claim {
  readonly kind: 'read' | 'write' | 'barrier';
  /** The first byte that still waits; it grows while a long operation goes on piece by piece. */
  readonly offset: number;
  readonly end: number;
}

/**
 * An operation that cannot go to the volume yet. It covers the bytes [offset, end) and, for the order among writes, the
 * whole chunks in which they lie.
 */
export interface WaitingOperation extends Claim {
  /** Does what can be done now. @returns true when all of it has been passed to the volume. */
  advance(): boolean;
}

/**
 * Keeps operations in the order of their calls wherever they overlap, while some wait for chunks to be preserved: each is
 * passed to the volume, which keeps the order from there on, only after every earlier one that it overlaps.
 *
 * Writes overlap if they touch the same chunk (the later one would wait for the same preservation anyway); a read and a
 * write if they share bytes; reads never do. A barrier follows all earlier writes and precedes all later ones.
 */
export class WaitingQueue {
  readonly #chunkSize: number;
  #waiting: WaitingOperation[] = [];
  /** All that wait, for the next one. */
  #blockers: Blockers;
  #pumping = false;
  #pumpAgain = false;
  #submittedMeanwhile: WaitingOperation[] = [];
  #drained: (() => void)[] = [];

  constructor(chunkSizeBytes: number) {
    this.#chunkSize = chunkSizeBytes;
    this.#blockers = new Blockers(chunkSizeBytes);
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Starts an operation at once if nothing stands before it, and keeps what is left of it. */
  submit(operation: WaitingOperation): void {
    if (this.#pumping) {
      this.#submittedMeanwhile.push(operation);
      this.#pumpAgain = true;
      return;
    }
    if (!this.#blockers.blocks(operation) && operation.advance()) return;
    this.#waiting.push(operation);
    this.#blockers.add(operation);
  }

  /** Must a write to these bytes wait for one that waits already? */
  blocksWrite(offset: number, end: number): boolean {
    return this.#pumping || (this.#waiting.length > 0 && this.#blockers.blocks({ kind: 'write', offset, end }));
  }

  /** Does some operation that waits write to these bytes? */
  writesTo(offset: number, end: number): boolean {
    return this.#waiting.some(
      (operation) => operation.kind === 'write' && operation.offset < end && offset < operation.end,
    );
  }

  /** Passes on whatever can go now. */
  pump(): void {
    if (this.#pumping) {
      this.#pumpAgain = true;
      return;
    }
    this.#pumping = true;
    try {
      do {
        this.#pumpAgain = false;
        this.#pumpOnce();
        this.#waiting.push(...this.#submittedMeanwhile.splice(0));
      } while (this.#pumpAgain);
    } finally {
      this.#pumping = false;
    }
    if (this.isEmpty) for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Resolves when nothing waits. */
  drained(): Promise<void> {
    if (this.isEmpty) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  #pumpOnce(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#blockers = new Blockers(this.#chunkSize);
    for (const operation of waiting) {
      if (!this.#blockers.blocks(operation) && operation.advance()) continue;
      this.#blockers.add(operation);
      this.#waiting.push(operation);
    }
  }
}

/** The operations before another one, so that asking whether they block it costs little however many they are. */
class Blockers {
  readonly #chunkSize: number;
  readonly #operations: Claim[] = [];
  /** Chunks that short writes among them touch; long ones are compared one by one. */
  readonly #chunks = new Set<number>();
  readonly #long: Claim[] = [];
  #writes = false;
  #barrier = false;

  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize;
  }

  add(operation: Claim): void {
    this.#operations.push(operation);
    if (operation.kind === 'barrier') this.#barrier = true;
    if (operation.kind !== 'write') return;
    this.#writes = true;
    const [first, last] = this.#chunksOf(operation);
    if (last - first >= manyChunks) this.#long.push(operation);
    else for (let chunk = first; chunk <= last; chunk += 1) this.#chunks.add(chunk);
  }

  blocks(operation: Claim): boolean {
    switch (operation.kind) {
      case 'barrier':
        return this.#writes || this.#barrier;
      case 'read':
        return (
          this.#touches(operation) &&
          this.#operations.some((other) => other.kind === 'write' && share(other, operation))
        );
      case 'write':
        return this.#barrier || this.#touches(operation) || this.#readBefore(operation);
    }
  }

  /** A read that waits must not see a later write. */
  #readBefore(operation: Claim): boolean {
    return this.#operations.some((other) => other.kind === 'read' && share(other, operation));
  }

  #touches(operation: Claim): boolean {
    const [first, last] = this.#chunksOf(operation);
    if (this.#long.some((other) => overlap(this.#chunksOf(other), [first, last]))) return true;
    if (last - first >= manyChunks) return [...this.#chunks].some((chunk) => chunk >= first && chunk <= last);
    for (let chunk = first; chunk <= last; chunk += 1) if (this.#chunks.has(chunk)) return true;
    return false;
  }

  #chunksOf({ offset, end }: Claim): [first: number, last: number] {
    return [Math.floor(offset / this.#chunkSize), Math.floor((end - 1) / this.#chunkSize)];
  }
}

function share(a: Claim, b: Claim): boolean {
  return a.offset < b.end && b.offset < a.end;
}

function overlap(a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] <= b[1] && b[0] <= a[1];
}

const manyChunks = 64;
