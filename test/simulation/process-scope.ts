import type { Completion } from '../../agent/core/block-device.ts';
import type { RandomAccessFile, StorageDirectory } from '../../agent/core/storage.ts';
import type { Clock } from '../../common/clock.ts';
import type { Log } from '../../common/log.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** How the clocks of a machine go wrong. */
export interface ClockSkew {
  /** How fast they run; 1 is right. */
  readonly rate: number;
  /** How far the time of day is off. */
  offsetMs: number;
}

/** One of its own for everyone: whoever waits for it is forgotten together with it. */
const never = () => new Promise<never>(() => undefined);

/**
 * The life of one process. Everything that a process can do to the world goes through it, so that a killed one has no
 * effect any more, and learns of nothing, although its code is still in memory.
 */
export class ProcessScope {
  readonly #scheduler: Scheduler;
  readonly #skew: ClockSkew;
  #alive = true;
  readonly #endings = new Set<() => void>();

  constructor(scheduler: Scheduler, skew: ClockSkew = { rate: 1, offsetMs: 0 }) {
    this.#scheduler = scheduler;
    this.#skew = skew;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** The process is gone. */
  end(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const ending of this.#endings) ending();
    this.#endings.clear();
  }

  /** Calls back when the process ends, unless what is returned is called before. */
  onEnd(ending: () => void): () => void {
    this.#endings.add(ending);
    return () => void this.#endings.delete(ending);
  }

  readonly clock: Clock = {
    wallTimeMs: () => startOfTimeMs + Math.floor(this.#scheduler.nowMs * this.#skew.rate + this.#skew.offsetMs),
    monotonicMs: () => this.#scheduler.nowMs * this.#skew.rate,
    after: (delayMs, callback) => this.#scheduler.after(delayMs / this.#skew.rate, () => this.#run(callback)),
    soon: (callback) => void this.#scheduler.after(0, () => this.#run(callback)),
  };

  /** Settles like the promise, as long as the process is alive. */
  guard<T>(operate: () => Promise<T>): Promise<T> {
    if (!this.alive) return never();
    return operate().then(
      (value) => (this.alive ? value : never()),
      (error: unknown) => {
        if (this.alive) throw error;
        return never();
      },
    );
  }

  /** A folder as this process sees it. */
  directory(directory: StorageDirectory): StorageDirectory {
    return {
      open: (name, options) => this.guard(async () => this.#file(await directory.open(name, options))),
      readFile: (name) => this.guard(() => directory.readFile(name)),
      writeFile: (name, content) => this.guard(() => directory.writeFile(name, content)),
      remove: (name) => this.guard(() => directory.remove(name)),
      list: () => this.guard(() => directory.list()),
      space: () => this.guard(() => directory.space()),
    };
  }

  #file(file: RandomAccessFile): RandomAccessFile {
    const completion = (operate: () => Completion): Completion => {
      if (!this.alive) return never();
      const done = operate();
      return done && this.guard(() => done);
    };
    return {
      get size() {
        return file.size;
      },
      read: (offset, target) => completion(() => file.read(offset, target)),
      write: (offset, data) => completion(() => file.write(offset, data)),
      zero: (offset, length, space) => completion(() => file.zero(offset, length, space)),
      extents: (offset, length) => file.extents(offset, length),
      resize: (size, space) => this.guard(() => file.resize(size, space)),
      sync: () => this.guard(() => file.sync()),
      close: () => this.guard(() => file.close()),
    };
  }

  #run(callback: () => void): void {
    if (this.alive) callback();
  }
}

/** What a process logs becomes part of the trace. */
export function traceLog(trace: Trace, who: string, scope: ProcessScope): Log {
  const at = (level: string) => (labels: object, message: string) => {
    if (scope.alive) trace.note(who, `${level} ${message} ${JSON.stringify(labels)}`);
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => traceLog(trace, who, scope),
  };
}

const startOfTimeMs = Date.UTC(2026, 0, 1);
