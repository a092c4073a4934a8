import { type Clock, delay } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RestoreView } from '../api/contract/restore.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Range } from '../core/range.ts';
import type { RateLimit } from '../mirror/rate-limit.ts';
import type { RestoreMarker } from '../mirror/restore-marker.ts';
import { type RestoreSource, restoreWindowBytes } from './restore-source.ts';

/** A piece that is read, compared and written at once; a multiple of any chunk that is smaller. */
const pieceBytes = 1024 * 1024;
/** What is compared and written separately within a piece. */
const unitBytes = 64 * 1024;
const retryMs = 1_000;

export interface RestoreRunOptions {
  readonly marker: RestoreMarker;
  /** The live device, with the mirrors behind it: what is written reaches them too. */
  readonly target: BlockDevice;
  /** Makes the restore known at every copy that may take over, durably, and opens the one that keeps the snapshot. */
  readonly begin: (marker: RestoreMarker) => Promise<RestoreSource>;
  /** Writes the outcome down: at the copies that may take over first, then here. */
  readonly end: (marker: RestoreMarker) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limit: RateLimit;
}

/**
 * One restore, from its first write to its end, whatever comes between. What holds:
 *
 * - Nothing is written before `begin` has resolved, so that no copy can be offered half restored.
 * - It is Done only when everything that has changed since the snapshot equals it here, and a flush after that has reached
 *   every copy in sync; only then is it written down, `end`.
 * - What is equal already is not written: after an interruption it begins anew, and writes only what is left.
 * - What may pass (a connection, a mirror that is not in sync) is waited for; what cannot (the snapshot is lost, the disk
 *   fails) makes it Failed, and the volume stays as it is, not offered.
 */
export class RestoreRun {
  readonly #options: RestoreRunOptions;
  readonly #stopping = new AbortController();
  #marker: RestoreMarker;
  #totalBytes: number | undefined;
  #checkedBytes = 0;
  #writtenBytes = 0;
  #lastError: string | undefined;
  readonly #ended: Promise<void>;

  constructor(options: RestoreRunOptions) {
    this.#options = options;
    this.#marker = options.marker;
    this.#ended = this.#run();
  }

  view(): Partial<RestoreView> {
    return {
      ...(this.#totalBytes === undefined ? {} : { totalBytes: this.#totalBytes }),
      checkedBytes: this.#checkedBytes,
      writtenBytes: this.#writtenBytes,
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    };
  }

  /** It begins nothing more; what it has begun fails when its device is closed. */
  halt(): void {
    this.#stopping.abort(new UnderstudyError('Closed', 'the restore has been stopped'));
  }

  /** Resolves when it writes nothing any more. */
  async stop(): Promise<void> {
    this.halt();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { log, clock, end } = this.#options;
    const { signal } = this.#stopping;
    const { name: restore, snapshot } = this.#marker;
    while (!signal.aborted) {
      try {
        if (this.#marker.state === 'Running') await this.#restore();
        await end(this.#marker);
        log.info({ restore, snapshot, writtenBytes: this.#writtenBytes }, `the restore is ${this.#marker.state}`);
        this.#lastError = this.#marker.failure;
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#lastError = errorMessage(error);
        log.warn({ restore, snapshot, error: this.#lastError }, 'the restore does not get on');
        if (isFinal(error)) this.#finish('Failed', this.#lastError);
      }
      await delay(clock, retryMs, signal).catch(() => undefined);
    }
  }

  async #restore(): Promise<void> {
    const { target, begin } = this.#options;
    const { snapshot } = this.#marker;
    const source = await begin(this.#marker);
    try {
      const { sizeBytes, changedBytes } = await source.look(snapshot, undefined);
      this.#totalBytes = changedBytes;
      this.#checkedBytes = 0;
      for (let offset = 0; offset < target.size; offset += restoreWindowBytes) {
        const window = { offset, length: Math.min(restoreWindowBytes, target.size - offset) };
        for (const range of await source.changed(snapshot, window)) await this.#restoreRange(source, range, sizeBytes);
      }
    } finally {
      await source.close();
    }
    await target.flush();
    this.#lastError = undefined;
    this.#finish('Done');
  }

  #finish(state: 'Done' | 'Failed', failure?: string): void {
    const endedAt = new Date(this.#options.clock.wallTimeMs()).toISOString();
    this.#marker = { ...this.#marker, state, endedAt, ...(failure === undefined ? {} : { failure }) };
  }

  async #restoreRange(source: RestoreSource, { offset, length }: Range, sizeBytes: number): Promise<void> {
    const { limit } = this.#options;
    for (let at = offset; at < offset + length; at += pieceBytes) {
      const { signal } = this.#stopping;
      signal.throwIfAborted();
      const bytes = Math.min(pieceBytes, offset + length - at);
      await limit.take(bytes, signal);
      const wanted = await contentOf(source, this.#marker.snapshot, { offset: at, length: bytes }, sizeBytes);
      await this.#writeDifferences(at, wanted);
      this.#checkedBytes += bytes;
      this.#lastError = undefined;
    }
  }

  async #writeDifferences(offset: number, wanted: Uint8Array): Promise<void> {
    const { target } = this.#options;
    const present = Buffer.allocUnsafeSlow(wanted.length);
    await target.read(offset, present);
    for (const { from, to } of differences(present, wanted)) {
      await target.write(offset + from, wanted.subarray(from, to));
      this.#writtenBytes += to - from;
    }
  }
}

/** What the snapshot holds; what was added to the volume since reads as zeroes. */
async function contentOf(
  source: RestoreSource,
  snapshot: string,
  { offset, length }: Range,
  sizeBytes: number,
): Promise<Uint8Array> {
  const within = Math.max(0, Math.min(length, sizeBytes - offset));
  if (within === length) return source.read(snapshot, { offset, length });
  const content = new Uint8Array(length);
  if (within > 0) content.set(await source.read(snapshot, { offset, length: within }));
  return content;
}

/** Runs of units that differ. */
function* differences(present: Buffer, wanted: Uint8Array): Generator<{ from: number; to: number }> {
  let from: number | undefined;
  for (let start = 0; start < wanted.length; start += unitBytes) {
    const end = Math.min(wanted.length, start + unitBytes);
    const same = present.compare(wanted, start, end, start, end) === 0;
    if (!same) from ??= start;
    if (same && from !== undefined) {
      yield { from, to: start };
      from = undefined;
    }
  }
  if (from !== undefined) yield { from, to: wanted.length };
}

/** What no waiting mends. */
function isFinal(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'NotFound' || code === 'Corrupt' || code === 'Invalid' || code === 'Io' || code === 'Fenced';
}
