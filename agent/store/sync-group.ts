/**
 * Lets concurrent calls share syncs. A sync that began before a call may have missed the caller's writes, so the call
 * waits for the next one, with every other call that came meanwhile: at most one runs and one waits.
 */
export class SyncGroup {
  readonly #run: () => Promise<void>;
  #running: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;

  constructor(run: () => Promise<void>) {
    this.#run = run;
  }

  /** Resolves when a sync that began after this call has succeeded; rejects when that one failed. */
  sync(): Promise<void> {
    if (!this.#running) return this.#start();
    this.#waiting ??= this.#running.then(
      () => this.#startWaiting(),
      () => this.#startWaiting(),
    );
    return this.#waiting;
  }

  /** Resolves when no sync is under way, whatever became of it. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.catch(() => {});
  }

  #startWaiting(): Promise<void> {
    this.#waiting = undefined;
    return this.#start();
  }

  #start(): Promise<void> {
    const running = this.#run().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }
}
