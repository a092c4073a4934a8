import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.ts';
import { cpuMicroseconds } from './cpu-time.ts';
import { type FioResult, fioCommand, type Load, runFio, type Target } from './fio.ts';
import { loadNow } from './machine.ts';
import type { BenchOptions } from './options.ts';

/** A measurement of one side in one round. */
export interface Sample {
  readonly row: string;
  readonly side: string;
  readonly round: number;
  readonly load: number;
  readonly result: object;
}

/** What fio measured, and the processor's time that the processes behind the target took for an operation. */
export interface LoadResult extends FioResult {
  readonly cpuUs: number;
}

/**
 * What rows measure with. What a row starts, it registers here, so that it ends with the row; what several rows share is
 * started once and ends with the run.
 */
export class Bench {
  readonly options: BenchOptions;
  /** Short, since the paths of unix sockets are limited. */
  readonly directory: string;
  readonly samples: Sample[] = [];
  /** By row, each once, in order. */
  readonly commands = new Map<string, Set<string>>();
  readonly #shared = new Map<string, Promise<unknown>>();
  #rowCleanups: Cleanup[] = [];
  #runCleanups: Cleanup[] = [];
  #row = '';
  #folders = 0;

  private constructor(options: BenchOptions, directory: string) {
    this.options = options;
    this.directory = directory;
  }

  static async create(options: BenchOptions): Promise<Bench> {
    await mkdir(options.directory, { recursive: true });
    return new Bench(options, await mkdtemp(join(options.directory, 'ub-')));
  }

  beginRow(name: string): void {
    this.#row = name;
  }

  /** Ends what the row has started. */
  async endRow(): Promise<void> {
    await undo(this.#rowCleanups);
    this.#rowCleanups = [];
  }

  async end(): Promise<void> {
    await this.endRow();
    await undo(this.#runCleanups);
    await rm(this.directory, { recursive: true, force: true });
  }

  /** To be undone at the end of the row. */
  cleanUp(undoIt: Cleanup): void {
    this.#rowCleanups.push(undoIt);
  }

  /** What is made by the first row that needs it, and shared with later ones until the end of the run. */
  shared<T>(name: string, make: () => Promise<T>): Promise<T> {
    const present = this.#shared.get(name) as Promise<T> | undefined;
    if (present) return present;
    const made = this.#makeShared(make);
    this.#shared.set(name, made);
    return made;
  }

  async #makeShared<T>(make: () => Promise<T>): Promise<T> {
    const before = this.#rowCleanups;
    this.#rowCleanups = [];
    try {
      return await make();
    } finally {
      this.#runCleanups.push(...this.#rowCleanups);
      this.#rowCleanups = before;
    }
  }

  async folder(name: string): Promise<string> {
    this.#folders += 1;
    const folder = join(this.directory, `${name}${this.#folders}`);
    await mkdir(folder, { recursive: true });
    return folder;
  }

  /** Notes a command, to be shown with the figures. */
  note(command: readonly string[]): void {
    const commands = this.commands.get(this.#row) ?? new Set();
    this.commands.set(this.#row, commands);
    commands.add(
      command
        .join(' ')
        .replaceAll(this.directory, 'DIR')
        .replace(/--randseed=\d+/, '--randseed=N'),
    );
  }

  /** Runs a load, with nothing left to be written back from before. */
  async fio(
    side: string,
    round: number,
    target: Target,
    load: Omit<Load, 'seed'>,
    prefix: readonly string[] = [],
  ): Promise<LoadResult> {
    const command = [...prefix, ...fioCommand(target, { ...load, seed: round + 1 })];
    this.note(command);
    await this.settle();
    const pids = target.kind === 'nbd' ? (target.pids?.() ?? []) : [];
    const before = cpuMicroseconds(pids);
    const measured = await runFio(command);
    const result = { ...measured, cpuUs: (cpuMicroseconds(pids) - before) / measured.operations };
    this.sample(side, round, result);
    return result;
  }

  sample(side: string, round: number, result: object): void {
    this.samples.push({ row: this.#row, side, round, load: loadNow(), result });
  }

  /** Has the file system write back what it holds, so that no measurement pays for the one before. */
  async settle(): Promise<void> {
    await run(['sync', '--file-system', this.directory]);
  }

  progress(text: string): void {
    process.stderr.write(`${this.#row}: ${text}\n`);
  }
}

type Cleanup = () => Promise<unknown>;

async function undo(cleanups: readonly Cleanup[]): Promise<void> {
  for (const cleanup of cleanups.toReversed()) {
    await cleanup().catch((error: unknown) => process.stderr.write(`cleanup: ${String(error)}\n`));
  }
}
