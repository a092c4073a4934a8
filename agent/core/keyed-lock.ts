/** Gives back what was acquired; calling it again does nothing. */
export type Release = () => void;

/** One lock per key, granted in the order of asking. */
export class KeyedLock {
  readonly #last = new Map<string, Promise<void>>();

  async acquire(key: string): Promise<Release> {
    const before = this.#last.get(key);
    const release = this.#enqueue(key);
    await before;
    return release;
  }

  /** The lock at once, or undefined if anybody holds it or waits for it. */
  tryAcquire(key: string): Release | undefined {
    return this.#last.has(key) ? undefined : this.#enqueue(key);
  }

  /** Runs a task while holding the key's lock. */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const release = await this.acquire(key);
    try {
      return await task();
    } finally {
      release();
    }
  }

  #enqueue(key: string): Release {
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(() => promise);
    this.#last.set(key, mine);
    return () => {
      resolve();
      if (this.#last.get(key) === mine) this.#last.delete(key);
    };
  }
}
