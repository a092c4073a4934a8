/**
 * What the kubelet has asked this node for, on disk: volumes that are staged, and volumes and snapshots that are
 * published to pods.
 *
 * Holds: a record for each staging path and each target path, from before its mount is begun until after it is undone.
 * The record of a published snapshot says which snapshot it is; for `@latest` that is the pin.
 *
 * Format: `csi.json`, {"version":1,"sha256":<hex>,"state":{"uses":[…]}}, where the checksum is that of the state as
 * JSON. Replaced as a whole at each change (StorageDirectory.writeFile).
 *
 * Invariants: one record for a path. A pin stays what it is while its snapshot is there, and while the record is there
 * the snapshot is not deleted.
 *
 * After a crash: a record may be there whose mount is not (yet, or any more); the kubelet asks again for what it wants,
 * and undoes what it does not. A file that is damaged is set aside under another name and reported; mounts are found by
 * their names without it, but pins are lost: a snapshot that is mounted is then kept by its reader alone.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { StorageDirectory } from '../core/storage.ts';

const useSchema = z.object({
  kind: z.enum(['staged', 'published']),
  /** The staging or target path. */
  path: z.string(),
  /** The volume handle, and the agent's volume that it names. */
  handle: z.string(),
  volume: z.string(),
  /** Of a snapshot: which; for `@latest` the one that was the newest. */
  snapshot: z.string().optional(),
  access: z.enum(['filesystem', 'block']),
  accessMode: z.string(),
  readOnly: z.boolean(),
  fsType: z.string(),
  options: z.array(z.string()),
  /** namespace/name, where the kubelet says so. */
  pod: z.string().optional(),
});
const stateSchema = z.object({ uses: z.array(useSchema) });
const fileSchema = z.object({ version: z.literal(1), sha256: z.string(), state: stateSchema });

/** One path that the kubelet has asked for. */
export type Use = Readonly<z.output<typeof useSchema>>;

const fileName = 'csi.json';

export class UseJournal {
  readonly #directory: StorageDirectory;
  #uses: readonly Use[];
  #written: Promise<void> = Promise.resolve();

  /** Reads the journal, or begins an empty one. */
  static async open(directory: StorageDirectory, log: Log): Promise<UseJournal> {
    const content = await directory.readFile(fileName);
    if (content === undefined) return new UseJournal(directory, []);
    try {
      return new UseJournal(directory, decode(content));
    } catch (error) {
      await directory.writeFile(`${fileName}.damaged`, content);
      log.error({ file: fileName, setAside: `${fileName}.damaged` }, errorMessage(error));
      return new UseJournal(directory, []);
    }
  }

  private constructor(directory: StorageDirectory, uses: readonly Use[]) {
    this.#directory = directory;
    this.#uses = uses;
  }

  get uses(): readonly Use[] {
    return this.#uses;
  }

  find(kind: Use['kind'], path: string): Use | undefined {
    return this.#uses.find((use) => use.kind === kind && use.path === path);
  }

  /** Adds a record, or replaces the one of that path. It counts at once in memory, and is on disk on completion. */
  put(use: Use): Promise<void> {
    return this.#change([...this.#others(use.kind, use.path), use]);
  }

  remove(kind: Use['kind'], path: string): Promise<void> {
    if (!this.find(kind, path)) return Promise.resolve();
    return this.#change(this.#others(kind, path));
  }

  #others(kind: Use['kind'], path: string): Use[] {
    return this.#uses.filter((use) => use.kind !== kind || use.path !== path);
  }

  #change(uses: readonly Use[]): Promise<void> {
    this.#uses = uses;
    // One write after the other, each with the newest state; a failed one fails its own caller only.
    const write = () => this.#directory.writeFile(fileName, encode(this.#uses));
    const written = this.#written.then(write, write);
    this.#written = written;
    return written;
  }
}

function checksum(state: unknown): string {
  return createHash('sha256').update(JSON.stringify(state)).digest('hex');
}

function encode(uses: readonly Use[]): Uint8Array {
  const state = { uses };
  return new TextEncoder().encode(`${JSON.stringify({ version: 1, sha256: checksum(state), state })}\n`);
}

/** @throws UnderstudyError Corrupt when it is damaged, or of a version that is not known. */
function decode(content: Uint8Array): readonly Use[] {
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content));
    const file = fileSchema.parse(json);
    const { state } = json as { state: unknown };
    if (checksum(state) !== file.sha256) throw new Error('its checksum does not match its content');
    return file.state.uses;
  } catch (error) {
    throw new UnderstudyError('Corrupt', "the journal of the kubelet's requests cannot be read", { cause: error });
  }
}
