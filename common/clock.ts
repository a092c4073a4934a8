/** A pending timer; cancelling one that fired or was cancelled does nothing. */
export interface Timer {
  cancel(): void;
}

/** Time comes in through this interface only, so that tests and the simulation own it. */
export interface Clock {
  /** Wall-clock time in milliseconds since 1970, for people to read; it may jump. */
  wallTimeMs(): number;
  /** Milliseconds on a clock that only grows, for measuring and for deadlines. */
  monotonicMs(): number;
  /** Calls back once after at least `delayMs`. The timer does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Calls back once, when everything that is ready by now has had its turn. */
  soon(callback: () => void): void;
}

export const systemClock: Clock = {
  wallTimeMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, callback) {
    const handle = setTimeout(callback, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  soon(callback) {
    setImmediate(callback);
  },
};

/** Resolves after `delayMs` on the given clock, or rejects with the signal's reason when it aborts first. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
