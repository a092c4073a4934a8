/**
 * What this agent has attached, mounted and formatted, on disk.
 *
 * Holds: every attachment, mount and format that was ever begun and not yet undone or finished. It is an intention, not
 * a fact: what there really is, the kernel knows (see AttachDriver.list and the mount table).
 *
 * Format: `attachments.json` in the agent's state directory, {"version":1,"sha256":<hex>,"state":<JournalState>}, where
 * the checksum is that of the state as JSON. Replaced as a whole at each change (StorageDirectory.writeFile).
 *
 * Invariants: a record is on disk before the first step of what it describes is taken, and is removed only after the
 * last trace is gone. Every mount record's attachment has a record, or has been undone. No two mounts share a target.
 *
 * After a crash: at most one step is not reflected, and that step's record is there, so recovery undoes it. A file that
 * is damaged is set aside under another name and reported; devices and mounts are still found through the kernel, but
 * scratch overlays of snapshots that were mounted then may have to be released by hand.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { StorageDirectory } from '../core/storage.ts';

const attachmentRecordSchema = z.object({
  /** Unique for ever; the name that the driver knows it by. */
  name: z.string(),
  driver: z.enum(['nbd', 'fuse', 'none']),
  volume: z.string(),
  /** Of a snapshot: which, and the mount whose scratch overlay it reads. */
  scratch: z.object({ snapshot: z.string(), mount: z.string() }).optional(),
  readOnly: z.boolean(),
  /** Of a live volume: what the device is bound to. A record from before there were bindings has none. */
  uid: z.string().optional(),
  epoch: z.number().optional(),
  /** Once it is attached. */
  device: z.string().optional(),
});

const mountRecordSchema = z.object({
  volume: z.string(),
  mount: z.string(),
  /**
   * filesystem: the live volume's; snapshot: a snapshot's, read-only; device: the live volume as a raw block device;
   * snapshotDevice: a snapshot as a raw block device, read-only.
   */
  kind: z.enum(['filesystem', 'snapshot', 'device', 'snapshotDevice']),
  snapshot: z.string().optional(),
  /** As it was asked for, and with symbolic links resolved. */
  target: z.string(),
  mountPoint: z.string(),
  /** Folders or the file that were made for the target, outermost first; removed again with the mount. */
  created: z.array(z.string()),
  readOnly: z.boolean(),
  options: z.array(z.string()),
  /** As asked for; of a snapshot, as found. */
  fsType: z.string().optional(),
  /** staging: not finished, or failed. unmounting: begun, and to be gone on with once nobody holds it any more. */
  state: z.enum(['staging', 'mounted', 'unmounting']),
  attachment: z.string().optional(),
  device: z.string().optional(),
});

/** A format that was begun. It stays when it failed, so that an error can say what the volume's content comes from. */
const formatRecordSchema = z.object({ volume: z.string(), fsType: z.string(), begunAt: z.string() });

const stateSchema = z.object({
  attachments: z.array(attachmentRecordSchema),
  mounts: z.array(mountRecordSchema),
  formats: z.array(formatRecordSchema),
});
const fileSchema = z.object({ version: z.literal(1), sha256: z.string(), state: stateSchema });

export type AttachmentRecord = Readonly<z.output<typeof attachmentRecordSchema>>;
export type MountRecord = Readonly<z.output<typeof mountRecordSchema>>;
export type FormatRecord = Readonly<z.output<typeof formatRecordSchema>>;
type JournalState = z.output<typeof stateSchema>;

const fileName = 'attachments.json';

export class AttachmentJournal {
  readonly #directory: StorageDirectory;
  #state: JournalState;
  #written: Promise<void> = Promise.resolve();

  /** Reads the journal, or begins an empty one. */
  static async open(directory: StorageDirectory, log: Log): Promise<AttachmentJournal> {
    const content = await directory.readFile(fileName);
    if (content === undefined) return new AttachmentJournal(directory, emptyState());
    try {
      return new AttachmentJournal(directory, decodeJournal(content));
    } catch (error) {
      await directory.writeFile(`${fileName}.damaged`, content);
      log.error({ file: fileName, setAside: `${fileName}.damaged` }, errorMessage(error));
      return new AttachmentJournal(directory, emptyState());
    }
  }

  private constructor(directory: StorageDirectory, state: JournalState) {
    this.#directory = directory;
    this.#state = state;
  }

  get attachments(): readonly AttachmentRecord[] {
    return this.#state.attachments;
  }

  get mounts(): readonly MountRecord[] {
    return this.#state.mounts;
  }

  findAttachment(name: string): AttachmentRecord | undefined {
    return this.#state.attachments.find((record) => record.name === name);
  }

  findMount(volume: string, mount: string): MountRecord | undefined {
    return this.#state.mounts.find((record) => record.volume === volume && record.mount === mount);
  }

  findFormat(volume: string): FormatRecord | undefined {
    return this.#state.formats.find((record) => record.volume === volume);
  }

  /** Adds a record, or replaces the one of the same name. It counts at once in memory, and is on disk on completion. */
  putAttachment(record: AttachmentRecord): Promise<void> {
    const others = this.#state.attachments.filter(({ name }) => name !== record.name);
    return this.#change({ attachments: [...others, record] });
  }

  removeAttachment(name: string): Promise<void> {
    return this.#change({ attachments: this.#state.attachments.filter((record) => record.name !== name) });
  }

  putMount(record: MountRecord): Promise<void> {
    return this.#change({ mounts: [...this.#mountsBut(record), record] });
  }

  removeMount(record: { volume: string; mount: string }): Promise<void> {
    return this.#change({ mounts: this.#mountsBut(record) });
  }

  putFormat(record: FormatRecord): Promise<void> {
    return this.#change({ formats: [...this.#formatsBut(record.volume), record] });
  }

  removeFormat(volume: string): Promise<void> {
    return this.#change({ formats: this.#formatsBut(volume) });
  }

  #mountsBut({ volume, mount }: { volume: string; mount: string }): MountRecord[] {
    return this.#state.mounts.filter((record) => record.volume !== volume || record.mount !== mount);
  }

  #formatsBut(volume: string): FormatRecord[] {
    return this.#state.formats.filter((record) => record.volume !== volume);
  }

  #change(change: Partial<JournalState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    // One write after the other, each with the newest state; a failed one fails its own caller only.
    const write = () => this.#directory.writeFile(fileName, encodeJournal(this.#state));
    const written = this.#written.then(write, write);
    this.#written = written;
    return written;
  }
}

function emptyState(): JournalState {
  return { attachments: [], mounts: [], formats: [] };
}

function checksum(state: unknown): string {
  return createHash('sha256').update(JSON.stringify(state)).digest('hex');
}

function encodeJournal(state: JournalState): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ version: 1, sha256: checksum(state), state })}\n`);
}

/** @throws UnderstudyError Corrupt when it is damaged, or of a version that is not known. */
function decodeJournal(content: Uint8Array): JournalState {
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(content));
    const file = fileSchema.parse(json);
    const { state } = json as { state: unknown };
    if (checksum(state) !== file.sha256) throw new Error('its checksum does not match its content');
    return file.state;
  } catch (error) {
    throw new UnderstudyError('Corrupt', 'the journal of attachments cannot be read', { cause: error });
  }
}
