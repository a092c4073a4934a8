import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { FillingView } from '../api/contract/filling.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { RateLimit } from '../mirror/rate-limit.ts';
import { FillDevice } from './fill-device.ts';
import { FillSource } from './fill-source.ts';
import { FilledChunks } from './filled-chunks.ts';
import type { FillOrigin, RecordStore } from './volume-record.ts';

/** What a reader of the volume waits for a source that does not answer. */
const patienceMs = 15_000;
const retryMs = 1_000;
/** Looked through at once for what is zero, and filled at once where it is not. */
const windowBytes = 512 * 1024 * 1024;
const pieceBytes = 1024 * 1024;

export interface VolumeFillOptions {
  readonly store: RecordStore;
  readonly directory: StorageDirectory;
  readonly connect: (origin: FillOrigin) => Promise<Connection>;
  readonly clock: Clock;
  readonly log: Log;
  readonly bytesPerSecond: number | undefined;
}

/**
 * Fills a volume from a snapshot that another volume has, behind those who use it. What holds:
 *
 * - It is Filled only when every chunk is, that is on stable storage, and is written down in the volume's record; from then
 *   on the source is not asked any more, and the layer is not there from the next start on.
 * - It goes on after a restart with what is not marked as filled, in whatever role the copy is.
 * - What somebody reads is filled next.
 * - A source that is gone is asked again and again: while it is, what is not filled cannot be read.
 */
export class VolumeFill {
  readonly #options: VolumeFillOptions;
  readonly #filled: FilledChunks;
  /** One for those who read the volume, and one for the filling, so that they do not wait for each other. */
  readonly #sources: { readonly readers: FillSource; readonly filling: FillSource };
  readonly #limit: RateLimit;
  readonly #stopping = new AbortController();
  #run: Promise<void> = Promise.resolve();
  #failure: { readonly message: string; readonly lost: boolean } | undefined;

  private constructor(options: VolumeFillOptions, filled: FilledChunks) {
    const { store, connect, clock, bytesPerSecond } = options;
    this.#options = options;
    this.#filled = filled;
    const { volume } = store.record;
    const source = (patience: number) =>
      new FillSource({ volume, origin: () => originOf(store), connect, clock, patienceMs: patience });
    this.#sources = { readers: source(patienceMs), filling: source(0) };
    this.#limit = new RateLimit(clock, bytesPerSecond);
  }

  /** Undefined if the volume is not to be filled, or has been. @throws UnderstudyError Corrupt, NotFound, Io */
  static async open(options: VolumeFillOptions): Promise<VolumeFill | undefined> {
    const { store, directory } = options;
    const { fill, created } = store.record;
    if (fill === undefined) return undefined;
    if (fill.state === 'Filled') {
      await FilledChunks.remove(directory);
      return undefined;
    }
    return new VolumeFill(options, await FilledChunks.open(directory, fill.sizeBytes, !created));
  }

  /** The volume as if it were filled, over what it has; filling begins. */
  over(base: BlockDevice): BlockDevice {
    const device = new FillDevice({
      base,
      filled: this.#filled,
      source: this.#sources.readers,
      stop: () => this.#stop(),
    });
    this.#run = this.#fill(device);
    return device;
  }

  view(): FillingView {
    const { volume, snapshot, address } = originOf(this.#options.store);
    const { fill } = this.#options.store.record;
    return {
      volume,
      snapshot,
      address,
      state: fill?.state ?? 'Filled',
      totalBytes: this.#filled.sizeBytes,
      filledBytes: this.#filled.filledBytes,
      ...(this.#failure === undefined ? {} : { lastError: this.#failure.message, lost: this.#failure.lost }),
    };
  }

  async #stop(): Promise<void> {
    this.#stopping.abort(new UnderstudyError('Closed', 'the volume is closed'));
    await this.#leaveSources();
    await this.#run;
  }

  async #leaveSources(): Promise<void> {
    await Promise.all([this.#sources.readers.stop(), this.#sources.filling.stop()]);
  }

  async #fill(device: FillDevice): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#fillAll(device);
        await device.flush();
        await this.#finish();
        return;
      } catch (error) {
        if (signal.aborted) return;
        const lost = error instanceof UnderstudyError && error.labels.lost === true;
        this.#failure = { message: errorMessage(error), lost };
        log.warn({ error: errorMessage(error) }, 'the volume cannot be filled further');
      }
      await delay(clock, retryMs, signal).catch(() => undefined);
    }
  }

  async #fillAll(device: FillDevice): Promise<void> {
    let from = 0;
    for (;;) {
      const missing = this.#filled.nextMissing(from, windowBytes);
      if (missing === undefined) return;
      from = await this.#fillWindow(device, missing);
    }
  }

  /** @returns where to go on: behind the window, or at what somebody has read meanwhile */
  async #fillWindow(device: FillDevice, window: Range): Promise<number> {
    const end = window.offset + window.length;
    let at = window.offset;
    for (const data of await this.#sources.filling.data(window)) {
      if (data.offset > at) await device.fill({ offset: at, length: data.offset - at }, true);
      for (at = data.offset; at < data.offset + data.length; at += pieceBytes) {
        const wanted = device.takeWanted();
        if (wanted !== undefined) return wanted;
        const length = Math.min(pieceBytes, data.offset + data.length - at);
        await this.#limit.take(length, this.#stopping.signal);
        await device.fill({ offset: at, length }, false);
        this.#failure = undefined;
      }
      at = data.offset + data.length;
    }
    if (end > at) await device.fill({ offset: at, length: end - at }, true);
    return end;
  }

  async #finish(): Promise<void> {
    const { store, directory, log } = this.#options;
    await store.update((record) => ({ ...record, fill: { ...record.fill, ...originOf(store), state: 'Filled' } }));
    this.#failure = undefined;
    await this.#leaveSources();
    // The device keeps the file open; what is left of it goes at the next start if not now.
    await FilledChunks.remove(directory);
    log.info({ snapshot: originOf(store).snapshot }, 'the volume has all of its content');
  }
}

function originOf(store: RecordStore): FillOrigin {
  const { fill, volume } = store.record;
  if (fill === undefined) throw new UnderstudyError('Internal', `volume ${volume} is not filled from a snapshot`);
  return fill;
}

/** How a filling stands that was over before this start. */
export function filledView(fill: FillOrigin | undefined): { filling?: FillingView } {
  if (fill === undefined) return {};
  const { volume, snapshot, address, state, sizeBytes } = fill;
  return { filling: { volume, snapshot, address, state, totalBytes: sizeBytes, filledBytes: sizeBytes } };
}
