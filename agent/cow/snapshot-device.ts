import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice, Completion, Extent } from '../core/block-device.ts';
import { checksum } from './chunk-content.ts';
import { none } from './chunk-table.ts';
import type { SnapshotBuffer } from './snapshot-buffer.ts';
import type { Snapshot } from './snapshot-map.ts';

export interface SnapshotDeviceOptions {
  readonly base: BlockDevice;
  readonly buffer: SnapshotBuffer;
  readonly snapshot: Snapshot;
  /** A preserved chunk that this snapshot reads is damaged or cannot be read. */
  readonly onDamaged: (chunk: number, reason: string) => void;
  readonly onClosed: () => void;
}

/**
 * A snapshot as a read-only device: each chunk from the buffer if it was preserved, else from the volume.
 *
 * A chunk that was read from the volume counts only if it is still not preserved after the read (rule 18). A preserved
 * chunk counts only if its checksum is right. Nothing counts if the snapshot was lost meanwhile: from then on every read
 * fails, so that its readers never get a mixture (rule 20).
 */
export class SnapshotDevice implements BlockDevice {
  readonly size: number;
  readonly blockSize: number;
  readonly #options: SnapshotDeviceOptions;
  readonly #chunkSize: number;
  /** Chunks whose checksums were right; small reads that follow each other need not read and check the chunk again. */
  readonly #verified = new Map<number, Uint8Array>();
  #closed = false;

  constructor(options: SnapshotDeviceOptions) {
    this.#options = options;
    this.size = options.snapshot.sizeBytes;
    this.blockSize = options.base.blockSize;
    this.#chunkSize = options.buffer.chunkSizeBytes;
  }

  read(offset: number, target: Uint8Array): Completion {
    try {
      this.#check();
      const completion = this.#read(offset, target);
      if (completion) return completion.then(() => this.#check());
      this.#check();
      return undefined;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  write(): Completion {
    return this.#refuse();
  }

  writeZeroes(): Completion {
    return this.#refuse();
  }

  trim(): Completion {
    return this.#refuse();
  }

  flush(): Completion {
    return undefined;
  }

  /** Costs a look at every chunk of the range: ask for some gigabytes at a time. */
  extents(offset: number, length: number): Extent[] {
    this.#check();
    const extents: Extent[] = [];
    const end = offset + length;
    for (let position = offset; position < end; ) {
      const chunk = Math.floor(position / this.#chunkSize);
      const entry = this.#find(chunk);
      const pieceEnd =
        entry === none ? this.#endOfUnpreserved(chunk, end) : Math.min(end, (chunk + 1) * this.#chunkSize);
      if (entry === none) {
        for (const extent of this.#options.base.extents(position, pieceEnd - position)) append(extents, extent);
      } else {
        const zero = this.#options.buffer.map.table.slotOf(entry) === none;
        append(extents, { length: pieceEnd - position, zero, hole: zero });
      }
      position = pieceEnd;
    }
    return extents;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#verified.clear();
    this.#options.onClosed();
  }

  #read(offset: number, target: Uint8Array): Completion {
    const later: Promise<void>[] = [];
    const end = offset + target.byteLength;
    for (let position = offset; position < end; ) {
      const chunk = Math.floor(position / this.#chunkSize);
      const entry = this.#find(chunk);
      const pieceEnd =
        entry === none ? this.#endOfUnpreserved(chunk, end) : Math.min(end, (chunk + 1) * this.#chunkSize);
      const piece = target.subarray(position - offset, pieceEnd - offset);
      const completion =
        entry === none ? this.#readVolume(position, piece) : this.#readPreserved(chunk, entry, position, piece);
      if (completion) later.push(completion);
      position = pieceEnd;
    }
    if (later.length === 0) return undefined;
    return later.length === 1 ? later[0] : Promise.all(later).then(() => {});
  }

  #readVolume(offset: number, target: Uint8Array): Completion {
    // What is over at once cannot have been overtaken by an overwrite.
    return this.#options.base.read(offset, target)?.then(() => {
      const first = Math.floor(offset / this.#chunkSize);
      const last = Math.floor((offset + target.byteLength - 1) / this.#chunkSize);
      for (let chunk = first; chunk <= last; chunk += 1) {
        if (this.#find(chunk) !== none) return this.#read(offset, target);
      }
      return undefined;
    });
  }

  #readPreserved(chunk: number, entry: number, position: number, target: Uint8Array): Completion {
    const { buffer } = this.#options;
    const { table } = buffer.map;
    const slot = table.slotOf(entry);
    if (slot === none) {
      target.fill(0);
      return undefined;
    }
    const within = position - chunk * this.#chunkSize;
    const verified = this.#verified.get(chunk);
    if (verified) {
      target.set(verified.subarray(within, within + target.byteLength));
      return undefined;
    }
    const expected = table.checksumOf(entry);
    const content = target.byteLength === this.#chunkSize ? target : new Uint8Array(this.#chunkSize);
    const deliver = () => {
      if (checksum(content) !== expected) throw this.#damaged(chunk, slot, 'does not match its checksum');
      if (content === target) return;
      target.set(content.subarray(within, within + target.byteLength));
      this.#remember(chunk, content);
    };
    buffer.slots.pin(slot);
    const completion = buffer.readSlot(slot, content);
    if (!completion) {
      buffer.slots.unpin(slot);
      deliver();
      return undefined;
    }
    return completion
      .then(deliver, (error: unknown) => {
        throw this.#damaged(chunk, slot, 'cannot be read', error);
      })
      .finally(() => buffer.slots.unpin(slot));
  }

  #damaged(chunk: number, slot: number, what: string, cause?: unknown): UnderstudyError {
    const reason = `the preserved content of chunk ${chunk} (slot ${slot} of the snapshot buffer) ${what}`;
    this.#options.onDamaged(chunk, reason);
    const { name } = this.#options.snapshot.record;
    return new UnderstudyError(cause ? 'Io' : 'Corrupt', `snapshot "${name}" is lost: ${reason}`, { cause });
  }

  #remember(chunk: number, content: Uint8Array): void {
    if (this.#closed) return;
    if (this.#verified.size >= verifiedChunks) {
      const [oldest] = this.#verified.keys();
      if (oldest !== undefined) this.#verified.delete(oldest);
    }
    this.#verified.set(chunk, content);
  }

  /** The end of the run of chunks from `chunk` on that are not preserved, at most `end`. */
  #endOfUnpreserved(chunk: number, end: number): number {
    let next = chunk + 1;
    while (next * this.#chunkSize < end && this.#find(next) === none) next += 1;
    return Math.min(next * this.#chunkSize, end);
  }

  #find(chunk: number): number {
    return this.#options.buffer.map.find(this.#options.snapshot.id, chunk);
  }

  #check(): void {
    const { record, state, reason } = this.#options.snapshot;
    if (this.#closed) throw new UnderstudyError('Closed', `the reader of snapshot "${record.name}" is closed`);
    if (state === 'Invalid') throw new UnderstudyError('Io', `snapshot "${record.name}" is lost: ${reason}`);
  }

  #refuse(): Promise<void> {
    const { name } = this.#options.snapshot.record;
    return Promise.reject(new UnderstudyError('ReadOnly', `snapshot "${name}" cannot be written to`));
  }
}

function append(extents: Extent[], extent: Extent): void {
  const last = extents.at(-1);
  if (last && last.zero === extent.zero && last.hole === extent.hole) {
    extents[extents.length - 1] = { ...last, length: last.length + extent.length };
  } else {
    extents.push(extent);
  }
}

const verifiedChunks = 4;
