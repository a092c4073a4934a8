import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { IntentBitmap } from './intent-bitmap.ts';
import type { Mirror } from './mirror.ts';

const checkpointMs = 2_000;

export interface IntentCheckpointOptions {
  readonly intent: IntentBitmap;
  readonly mirrors: () => readonly Mirror[];
  /** Syncs the local device and every standby that writes wait for. */
  readonly flush: () => Promise<void> | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Clears the write-intent bits of regions that are equal on all copies: every few seconds, and at an orderly stop.
 *
 * Invariant (rule 8): a bit is cleared only after a sync of every copy, asynchronous ones included, that began after the
 * region's last write.
 */
export class IntentCheckpoint {
  readonly #options: IntentCheckpointOptions;
  #timer: Timer | undefined;
  #running = false;
  #stopped = false;

  constructor(options: IntentCheckpointOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = this.#options.clock.after(checkpointMs, () => {
      void this.#run().finally(() => {
        if (!this.#stopped) this.start();
      });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Brings everything to stable storage everywhere, and the bitmap to say so, if that can be had in time. */
  settle(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      // A standby that is lost just now must not keep a stop waiting.
      const timeout = this.#options.clock.after(timeoutMs, resolve);
      void this.#settle().finally(() => {
        timeout.cancel();
        resolve();
      });
    });
  }

  async #settle(): Promise<void> {
    if (!this.#allInSync) return;
    this.#options.intent.touchAll();
    await this.#run();
  }

  get #allInSync(): boolean {
    const mirrors = this.#options.mirrors();
    return mirrors.length > 0 && mirrors.every((mirror) => mirror.inSync);
  }

  async #run(): Promise<void> {
    const { intent, mirrors, flush, log } = this.#options;
    if (this.#running || !this.#allInSync || !intent.checkpointWanted) return;
    this.#running = true;
    intent.beginCheckpoint();
    try {
      await flush();
      await Promise.all(mirrors().map((mirror) => mirror.synced()));
      // A standby that was lost meanwhile and given up did not sync.
      if (this.#allInSync) intent.endCheckpoint();
      else intent.abandonCheckpoint();
    } catch (error) {
      intent.abandonCheckpoint();
      log.info({ error: errorMessage(error) }, 'a checkpoint of the write-intent bitmap has to wait');
    } finally {
      this.#running = false;
    }
  }
}
