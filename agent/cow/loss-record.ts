import type { Log } from '../../common/log.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { decodeFrame, decodeRecords, FrameBuilder } from './index-codec.ts';

/**
 * Remembers on the volume's own disk which snapshots are lost, when the buffer's disk cannot be told.
 *
 * Holds: a file `<volume>.cow-losses`, one index frame (index-codec, generation 0) of `invalidate` records; there only
 * while something in it is not on stable storage in the buffer's index. It is replaced as a whole, so a crash finds the
 * old or the new one. If it is damaged, every snapshot counts as lost.
 */
export class LossRecord {
  /** Stands for every snapshot that there is. */
  static readonly all = 0;
  readonly #directory: StorageDirectory | undefined;
  readonly #name: string;
  readonly #log: Log;
  readonly #losses = new Map<number, string>();
  /** Grows with each loss, so that one that came during a commit of the buffer is not cleared by it. */
  #version = 0;
  #written: Promise<void> = Promise.resolve();

  constructor(directory: StorageDirectory | undefined, volume: string, log: Log) {
    this.#directory = directory;
    this.#name = fileName(volume);
    this.#log = log;
  }

  /** Records that everything the buffer holds is lost, without knowing what it is. @throws UnderstudyError Io */
  static async recordAll(directory: StorageDirectory, volume: string): Promise<void> {
    const builder = new FrameBuilder();
    builder.invalidate(LossRecord.all, 'the volume was written to without its snapshot buffer');
    await directory.writeFile(fileName(volume), builder.finish(0, 0));
  }

  static async destroy(directory: StorageDirectory | undefined, volume: string): Promise<void> {
    await directory?.remove(fileName(volume));
  }

  get version(): number {
    return this.#version;
  }

  /**
   * What was recorded before a restart; undefined if it cannot be read. It stays recorded, whatever is added, until it is
   * cleared: a buffer that fails again before its index has it must not bring the snapshots back.
   */
  async load(): Promise<ReadonlyMap<number, string> | undefined> {
    const losses = await this.#read();
    if (losses === undefined) this.#losses.set(LossRecord.all, 'the record of losses is damaged');
    else for (const [id, reason] of losses) this.#losses.set(id, reason);
    return losses;
  }

  async #read(): Promise<ReadonlyMap<number, string> | undefined> {
    const content = await this.#directory?.readFile(this.#name);
    const losses = new Map<number, string>();
    if (!content) return losses;
    const frame = decodeFrame(content, 0);
    if (!frame) return undefined;
    const ignore = () => {};
    const wrong = decodeRecords(frame.payload, {
      invalidate: (id, reason) => losses.set(id, reason),
      preserve: ignore,
      forget: ignore,
      take: ignore,
      ready: ignore,
      remove: ignore,
      nextId: ignore,
    });
    return wrong === undefined ? losses : undefined;
  }

  /** Resolves when the losses are on stable storage; undefined if there is nowhere to record them. */
  record(losses: Iterable<readonly [id: number, reason: string]>): Promise<void> | undefined {
    const directory = this.#directory;
    if (!directory) return undefined;
    for (const [id, reason] of losses) this.#losses.set(id, reason);
    this.#version += 1;
    this.#written = this.#written.then(async () => {
      const builder = new FrameBuilder();
      for (const [id, reason] of this.#losses) builder.invalidate(id, reason);
      try {
        await directory.writeFile(this.#name, builder.finish(0, 0));
      } catch (error) {
        // The volume's own disk refuses writes: the overwrite that waits for this will fail as well.
        this.#log.error({ error: String(error) }, 'cannot record on the volume disk that snapshots are lost');
      }
    });
    return this.#written;
  }

  /** Removes the record, if nothing was added since the given version: the buffer's index has it all. */
  clear(version: number): Promise<void> {
    const directory = this.#directory;
    if (!directory || this.#version !== version) return this.#written;
    this.#losses.clear();
    this.#written = this.#written.then(async () => {
      try {
        await directory.remove(this.#name);
      } catch (error) {
        // It says nothing that the index does not say as well.
        this.#log.warn({ error: String(error) }, 'cannot remove the record of lost snapshots');
      }
    });
    return this.#written;
  }

  /** Resolves when nothing is being written any more, so that somebody else may. */
  settled(): Promise<void> {
    return this.#written;
  }

  get isEmpty(): boolean {
    return this.#losses.size === 0;
  }
}

function fileName(volume: string): string {
  return `${volume}.cow-losses`;
}
