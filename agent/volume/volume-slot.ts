import { type Clock, delay } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeView } from '../api/contract/volumes.ts';
import type { Arbiter } from '../mirror/arbiter.ts';
import type { MirrorTiming } from '../mirror/mirror-link-options.ts';
import type { LinkTls } from './engine-calls.ts';
import type { Pools } from './pools.ts';
import { Revival } from './revival.ts';
import { VolumeHost } from './volume-host.ts';
import type { VolumeRecord } from './volume-record.ts';

export interface SlotOptions {
  readonly pools: Pools;
  readonly nbdDirectory: string;
  /** For threads that are started from now on. */
  tls: LinkTls | undefined;
  readonly timing: MirrorTiming;
  /** Of this agent, if it has one. */
  readonly arbiter: Arbiter | undefined;
  readonly resyncBytesPerSecond: number | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Told, after a while, of a volume whose thread has died: it is to be started again. */
  readonly revive: (slot: VolumeSlot) => void;
}

/** How long the thread of a volume may take to say how the volume is. */
const answerMs = 5_000;

/**
 * One volume on this node: its thread while that runs, or what is known of it while it does not. A thread that has died,
 * of whatever it was, takes no other with it, and is started again as after a crash of the agent.
 */
export class VolumeSlot {
  readonly volume: string;
  readonly #options: SlotOptions;
  /** As of the last start; the thread has the current one. */
  #record: VolumeRecord;
  #host: VolumeHost | undefined;
  #state: 'Recovering' | 'Failed' = 'Recovering';
  #lastError: string | undefined;
  readonly #revival: Revival;

  constructor(record: VolumeRecord, options: SlotOptions) {
    this.volume = record.volume;
    this.#record = record;
    this.#options = options;
    this.#revival = new Revival(options.clock);
  }

  get socket(): string {
    return `${this.#options.nbdDirectory}/${this.volume}.sock`;
  }

  /** The thread. @throws UnderstudyError NotReady with what keeps it from running */
  get host(): VolumeHost {
    if (this.#host?.alive) return this.#host;
    const why = this.#lastError ?? 'it is being recovered';
    throw new UnderstudyError('NotReady', `volume ${this.volume} is not running: ${why}`);
  }

  get running(): boolean {
    return this.#host?.alive === true;
  }

  /** The current record. */
  async record(): Promise<VolumeRecord> {
    if (this.running) this.#record = await this.host.call('record');
    return this.#record;
  }

  async start(record: VolumeRecord): Promise<void> {
    const { pools, tls, timing, arbiter, resyncBytesPerSecond, log } = this.#options;
    this.#record = record;
    this.#state = 'Recovering';
    try {
      this.#host = await VolumeHost.start(
        {
          record,
          dataDirectory: pools.folderOf(record.pool, this.volume),
          bufferDirectory: record.buffer && pools.folderOf(record.buffer.pool, this.volume),
          poolDirectories: Object.fromEntries(pools.all.map(({ name }) => [name, pools.folderOf(name, this.volume)])),
          socket: this.socket,
          tls,
          timing,
          resyncBytesPerSecond,
        },
        arbiter,
        log,
        (reason) => this.#died(reason),
      );
      this.#lastError = undefined;
    } catch (error) {
      this.#failed(errorMessage(error));
      throw error;
    }
  }

  /** Stops the thread in order and answers with the record that it left. */
  async stop(): Promise<VolumeRecord> {
    const host = this.#host;
    if (!host) return this.#record;
    if (host.alive) this.#record = { ...(await host.call('record')), running: false };
    this.#host = undefined;
    await host.stop();
    return this.#record;
  }

  /** @throws UnderstudyError Timeout when the thread does not answer, most likely because it waits for its disk */
  async view(): Promise<VolumeView> {
    try {
      if (this.running) return await this.answer(this.host.call('view'));
    } catch (error) {
      // It ended between the two; anything else is the caller's to know.
      if (errorCode(error) !== 'Unavailable') throw error;
    }
    return this.#viewWithout(this.#lastError);
  }

  /** What there is to say of it in any case; other volumes are not kept waiting for one that does not answer. */
  async viewOrLess(): Promise<VolumeView> {
    try {
      return await this.view();
    } catch (error) {
      if (errorCode(error) !== 'Timeout') throw error;
      return this.#viewWithout(errorMessage(error));
    }
  }

  /** An answer of the thread, if it comes in time. @throws UnderstudyError Timeout */
  async answer<Value>(call: Promise<Value>): Promise<Value> {
    const waiting = new AbortController();
    const late = delay(this.#options.clock, answerMs, waiting.signal).then(() => {
      const message = `volume ${this.volume} has not answered for ${answerMs / 1000} seconds; it may wait for its disk`;
      throw new UnderstudyError('Timeout', message);
    });
    try {
      return await Promise.race([call, late]);
    } finally {
      waiting.abort();
      late.catch(() => undefined);
    }
  }

  #viewWithout(why: string | undefined): VolumeView {
    const { volume, uid, role, epoch, size, blockSize, pool, standby } = this.#record;
    return {
      volume,
      ...(uid === undefined ? {} : { uid }),
      role,
      epoch,
      size,
      blockSize,
      pool,
      state: this.#state,
      nbd: this.socket,
      consistent: role === 'primary' || standby.consistent,
      clean: false,
      attached: false,
      ...(why === undefined ? {} : { lastError: why }),
      mirrors: [],
      snapshots: [],
    };
  }

  #died(reason: string): void {
    const waitMs = this.#revival.died();
    this.#lastError = `${reason}; it is started again in ${waitMs / 1000} s`;
    this.#options.clock.after(waitMs, () => this.#options.revive(this));
  }

  #failed(reason: string): void {
    this.#state = 'Failed';
    this.#lastError = reason;
  }
}
