import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { IntentBitmap } from './intent-bitmap.ts';
import type { Mirror } from './mirror.ts';

const roundMs = 2_000;

export interface IntentCheckpointOptions {
  readonly intent: IntentBitmap;
  readonly mirrors: () => readonly Mirror[];
  /** Syncs the local device and every standby that writes wait for. */
  readonly flush: () => Promise<void> | undefined;
  /** How long a region must have had no write for its bit to be cleared. */
  readonly coldRegionMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Clears the write-intent bits of regions that are equal on all copies: of those that have become cold, every few seconds,
 * and of all at an orderly stop. A write into a region whose bit is not set waits for a sync of the bitmap, and a checkpoint
 * syncs every copy, so neither should happen again and again under a steady load.
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
    const { clock, coldRegionMs } = this.#options;
    this.#timer = clock.after(roundMs, () => {
      void this.#run(Math.ceil(coldRegionMs / roundMs)).finally(() => {
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
    await this.#run(0);
  }

  get #allInSync(): boolean {
    const mirrors = this.#options.mirrors();
    return mirrors.length > 0 && mirrors.every((mirror) => mirror.inSync);
  }

  async #run(quietRounds: number): Promise<void> {
    const { intent, mirrors, flush, log } = this.#options;
    if (this.#running || !this.#allInSync || !intent.beginCheckpoint(quietRounds)) return;
    this.#running = true;
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
