export interface BackgroundPaceOptions {
  /** What all clients together may read in one turn; one request always fits. */
  readonly bytesPerTurn: number;
  /** Calls back in a later turn of the event loop, after what came in meanwhile. */
  readonly nextTurn: (callback: () => void) => void;
}

/**
 * How fast the clients of background exports are served by a thread that has more important things to do: together they
 * read a little in each turn of its event loop.
 *
 * Invariant: whoever has to wait is called when there is something to read again, the one that has waited longest first.
 */
export class BackgroundPace {
  readonly #options: BackgroundPaceOptions;
  #leftBytes: number;
  #waiting = new Set<() => void>();

  constructor(options: BackgroundPaceOptions) {
    this.#options = options;
    this.#leftBytes = options.bytesPerTurn;
  }

  /** Nothing more is to be read in this turn: `wait`. */
  get spent(): boolean {
    return this.#leftBytes <= 0;
  }

  /** Counts what is read. */
  spend(bytes: number): void {
    const { bytesPerTurn, nextTurn } = this.#options;
    // The first read of a turn ends the turn's account with the turn.
    if (this.#leftBytes === bytesPerTurn) nextTurn(() => this.#beginTurn());
    this.#leftBytes -= bytes;
  }

  /** Calls back, once, in a turn in which something may be read. */
  wait(callback: () => void): void {
    this.#waiting.add(callback);
  }

  #beginTurn(): void {
    this.#leftBytes = this.#options.bytesPerTurn;
    const waiting = [...this.#waiting];
    this.#waiting = new Set();
    let called = 0;
    for (; called < waiting.length && !this.spent; called += 1) waiting[called]?.();
    this.#waiting = new Set([...waiting.slice(called), ...this.#waiting]);
  }
}
