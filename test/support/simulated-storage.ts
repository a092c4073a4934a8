import type { OpenOptions, RandomAccessFile, StorageDirectory } from '../../agent/core/storage.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Random } from './random.ts';
import { FileContent } from './simulated-file.ts';

/**
 * The power supply of some disks that fail together. Each write, zeroing, sync and change of a folder is one operation;
 * the power can be cut before any of them, so that a test can go through all the moments at which a crash may fall.
 */
export class SimulatedPower {
  /** Operations begun so far. */
  operations = 0;
  #cutAt = Number.POSITIVE_INFINITY;
  #off = false;

  get isOff(): boolean {
    return this.#off;
  }

  /** The power goes before the operation with this number (the first is 1). */
  cutBefore(operation: number): void {
    this.#cutAt = operation;
  }

  cut(): void {
    this.#off = true;
  }

  restore(): void {
    this.#off = false;
    this.#cutAt = Number.POSITIVE_INFINITY;
  }

  /** Counts an operation. @throws when the power is off */
  use(): void {
    if (!this.#off) {
      this.operations += 1;
      if (this.operations >= this.#cutAt) this.#off = true;
    }
    this.check();
  }

  check(): void {
    if (this.#off) throw new UnderstudyError('Io', 'simulated: the power is off');
  }
}

export interface SimulatedDiskOptions {
  readonly power?: SimulatedPower;
  readonly random: Random;
  /** Space for all files; what is never written takes none. */
  readonly capacityBytes?: number;
  /** How often a read or write takes its time instead of being done at once, from 0 to 1. */
  readonly slowness?: number;
  /** How long what takes its time takes; a turn of the event loop if not given. */
  readonly turn?: () => Promise<void>;
}

/**
 * A disk with one folder of files, as a crash sees it.
 *
 * Of what was written since the last sync, a crash keeps for each sector of 512 bytes any of the versions that it had,
 * the synced one included, each sector by itself. Besides it can be told to fail or hang syncs, to fail writes, to be
 * full, and to flip bits.
 */
export class SimulatedDisk implements StorageDirectory {
  readonly power: SimulatedPower;
  readonly #random: Random;
  readonly #slowness: number;
  readonly #turn: () => Promise<void>;
  readonly #files = new Map<string, FileContent>();
  /** Sealed files of writeFile; each is as durable as its folder. */
  readonly #documents = new Map<string, Uint8Array>();
  /** Documents that are just being replaced. */
  readonly #replacing = new Set<{ name: string; content: Uint8Array }>();
  #life = 0;
  #hanging: Promise<void> | undefined;
  #resume: (() => void) | undefined;
  capacityBytes: number;
  /** Set to make operations fail until it is cleared. */
  failing: { syncs?: boolean; writes?: boolean; reads?: boolean } = {};
  syncs = 0;

  constructor(options: SimulatedDiskOptions) {
    this.power = options.power ?? new SimulatedPower();
    this.#random = options.random.fork();
    this.#slowness = options.slowness ?? 0;
    this.#turn = options.turn ?? eventLoopTurn;
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Whoever opened files before this finds them dead; what a crash leaves of them can be opened again. */
  crash(): void {
    this.#life += 1;
    for (const file of this.#files.values()) file.crash(this.#random);
    this.#settleReplacements();
    this.resume();
  }

  /** The process is killed but the machine goes on: nothing is lost. */
  kill(): void {
    this.#life += 1;
    this.#settleReplacements();
    this.resume();
  }

  /** The disk is exchanged for an empty one. */
  wipe(): void {
    this.kill();
    this.#files.clear();
    this.#documents.clear();
  }

  /** One sector of a file: what a read would find, or what a crash could not take away any more. */
  sector(name: string, sector: number, which: 'current' | 'durable'): Uint8Array | undefined {
    return this.#files.get(name)?.sector(sector, which);
  }

  /** A crash in the middle of the replacement of a document leaves the old or the new one. */
  #settleReplacements(): void {
    for (const { name, content } of this.#replacing) if (this.#random.chance(0.5)) this.#documents.set(name, content);
    this.#replacing.clear();
  }

  /** Syncs hang until `resume`. */
  hang(): void {
    if (this.#hanging) return;
    this.#hanging = new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  resume(): void {
    this.#resume?.();
    this.#hanging = undefined;
  }

  /** Flips one bit of a file, on the disk and in the page cache. */
  rot(name: string, offset: number): void {
    const file = this.#files.get(name);
    if (!file) throw new Error(`no file ${name}`);
    file.flip(offset, 1 << this.#random.below(8));
  }

  /** Offsets at which a file has something written, in pages of 4096 bytes. */
  writtenPages(name: string): number[] {
    return this.#files.get(name)?.writtenPages() ?? [];
  }

  get usedBytes(): number {
    let used = 0;
    for (const file of this.#files.values()) used += file.allocatedBytes;
    for (const document of this.#documents.values()) used += document.byteLength;
    return used;
  }

  /** The folder as one process sees it: after the next crash, nothing that this one still does has an effect. */
  mount(): StorageDirectory {
    const life = this.#life;
    const alive = () => {
      if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
    };
    return {
      open: async (name, options) => {
        alive();
        return this.open(name, options);
      },
      readFile: async (name) => {
        alive();
        return this.readFile(name);
      },
      writeFile: async (name, content) => {
        alive();
        return this.writeFile(name, content);
      },
      remove: async (name) => {
        alive();
        return this.remove(name);
      },
      list: async () => {
        alive();
        return this.list();
      },
      space: async () => {
        alive();
        return this.space();
      },
    };
  }

  async open(name: string, options: OpenOptions = {}): Promise<RandomAccessFile> {
    this.power.check();
    if (!this.#files.has(name)) {
      if (!options.create) throw new UnderstudyError('NotFound', `simulated: no file ${name}`);
      this.power.use();
      const content = new FileContent(options.create.size);
      if (options.create.space === 'allocate') content.allocate(0, options.create.size);
      this.#checkSpace(content.allocatedBytes);
      this.#files.set(name, content);
    }
    return this.#handle(name, this.#files.get(name) as FileContent);
  }

  async readFile(name: string): Promise<Uint8Array | undefined> {
    this.power.check();
    const document = this.#documents.get(name);
    return document && Uint8Array.from(document);
  }

  async writeFile(name: string, content: Uint8Array): Promise<void> {
    const life = this.#life;
    const copy = Uint8Array.from(content);
    this.power.use();
    const replacement = { name, content: copy };
    this.#replacing.add(replacement);
    await this.#turn();
    this.#replacing.delete(replacement);
    if (this.failing.writes) throw new UnderstudyError('Io', 'simulated: a write failed');
    if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
    if (this.power.isOff) {
      // The crash came in the middle: old or new.
      if (this.#random.chance(0.5)) this.#documents.set(name, copy);
      this.power.check();
    }
    this.#documents.set(name, copy);
  }

  async remove(name: string): Promise<void> {
    this.power.use();
    this.#documents.delete(name);
    this.#files.delete(name);
  }

  async list(): Promise<string[]> {
    return [...this.#files.keys(), ...this.#documents.keys()].sort();
  }

  async space(): Promise<{ totalBytes: number; freeBytes: number }> {
    return { totalBytes: this.capacityBytes, freeBytes: Math.max(0, this.capacityBytes - this.usedBytes) };
  }

  #checkSpace(moreBytes: number): void {
    if (moreBytes > 0 && this.usedBytes + moreBytes > this.capacityBytes)
      throw new UnderstudyError('NoSpace', 'simulated: disk full');
  }

  /** Runs an operation at once, or a little later with the probability of `slowness`. */
  #perform(life: number, action: () => void): Promise<void> | undefined {
    const run = () => {
      if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
      this.power.check();
      action();
    };
    if (this.#slowness > 0 && this.#random.chance(this.#slowness)) return this.#turn().then(run);
    try {
      run();
      return undefined;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #handle(name: string, content: FileContent): RandomAccessFile {
    const life = this.#life;
    let failed = false;
    let closed = false;
    const begin = (offset: number, length: number) => {
      if (closed) throw new UnderstudyError('Closed', `simulated: ${name} is closed`);
      if (offset < 0 || offset + length > content.size) throw new UnderstudyError('Invalid', `simulated: past ${name}`);
    };
    const change = (offset: number, length: number, action: () => void) => {
      try {
        begin(offset, length);
        if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
        this.power.use();
        if (failed) throw new UnderstudyError('Io', 'simulated: a sync of this file has failed');
        if (this.failing.writes) throw new UnderstudyError('Io', 'simulated: a write failed');
      } catch (error) {
        return Promise.reject(error);
      }
      return this.#perform(life, action);
    };
    return {
      get size() {
        return content.size;
      },
      read: (offset, target) => {
        try {
          begin(offset, target.byteLength);
          if (this.failing.reads) throw new UnderstudyError('Io', 'simulated: a read failed');
        } catch (error) {
          return Promise.reject(error);
        }
        return this.#perform(life, () => content.read(offset, target));
      },
      write: (offset, data) =>
        change(offset, data.byteLength, () => {
          this.#checkSpace(content.allocationFor(offset, data.byteLength));
          content.write(offset, data);
        }),
      zero: (offset, length, space) => change(offset, length, () => content.zero(offset, length, space)),
      extents: (offset, length) => content.extents(offset, length),
      resize: async (size, space) => {
        this.power.use();
        content.resize(size);
        if (space === 'allocate') content.allocate(0, size);
      },
      sync: async () => {
        if (closed) throw new UnderstudyError('Closed', `simulated: ${name} is closed`);
        if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
        this.power.use();
        if (failed) throw new UnderstudyError('Io', 'simulated: a sync of this file has failed');
        this.syncs += 1;
        const token = content.beginSync();
        await this.#turn();
        await this.#hanging;
        if (life !== this.#life) throw new UnderstudyError('Io', 'simulated: the process is gone');
        this.power.check();
        if (this.failing.syncs) {
          failed = true;
          content.failSync();
          throw new UnderstudyError('Io', 'simulated: a sync failed');
        }
        content.endSync(token);
      },
      close: async () => {
        closed = true;
      },
    };
  }
}

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
