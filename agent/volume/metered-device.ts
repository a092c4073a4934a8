import type { Clock } from '../../common/clock.ts';
import type { BlockDevice, Completion, Extent, WriteOptions, WriteZeroesOptions } from '../core/block-device.ts';
import type { Operation, OperationStatistics } from './operation-statistics.ts';
import type { WriteActivity } from './write-activity.ts';

/**
 * The top of a primary's stack: notes every write in a running picture of the write rate, measures how long operations
 * take, and passes everything on.
 */
export class MeteredDevice implements BlockDevice {
  readonly #base: BlockDevice;
  readonly #activity: WriteActivity;
  readonly #statistics: OperationStatistics;
  readonly #clock: Clock;

  constructor(base: BlockDevice, activity: WriteActivity, statistics: OperationStatistics, clock: Clock) {
    this.#base = base;
    this.#activity = activity;
    this.#statistics = statistics;
    this.#clock = clock;
  }

  get size(): number {
    return this.#base.size;
  }

  get blockSize(): number {
    return this.#base.blockSize;
  }

  read(offset: number, target: Uint8Array): Completion {
    const startMs = this.#clock.monotonicMs();
    return this.#measured('read', target.length, startMs, this.#base.read(offset, target));
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    this.#activity.written(data.length);
    const startMs = this.#clock.monotonicMs();
    return this.#measured('write', data.length, startMs, this.#base.write(offset, data, options));
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    this.#activity.written(length);
    const startMs = this.#clock.monotonicMs();
    return this.#measured('write', length, startMs, this.#base.writeZeroes(offset, length, options));
  }

  trim(offset: number, length: number): Completion {
    this.#activity.written(length);
    return this.#base.trim(offset, length);
  }

  flush(): Completion {
    const startMs = this.#clock.monotonicMs();
    return this.#measured('flush', 0, startMs, this.#base.flush());
  }

  extents(offset: number, length: number): Extent[] {
    return this.#base.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#base.close();
  }

  #measured(operation: Operation, bytes: number, startMs: number, completion: Completion): Completion {
    const finished = (succeeded: boolean) =>
      this.#statistics.finished(operation, this.#clock.monotonicMs() - startMs, bytes, succeeded);
    if (completion === undefined) {
      finished(true);
      return undefined;
    }
    // Beside the operation, not behind it: who waits for the completion waits for nothing else.
    completion.then(
      () => finished(true),
      () => finished(false),
    );
    return completion;
  }
}
