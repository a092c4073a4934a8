import type { Completion, Extent } from './block-device.ts';

/**
 * A file or raw device as the layers below a volume see it. The real one stands in agent/store; the simulation has one
 * that loses unsynced writes, tears them, and fails.
 *
 * - Writes are visible to reads at once and survive the death of the process, but survive the death of the machine only
 *   when a `sync` that was called after them has completed.
 * - A sync that failed may have lost writes for good: the file refuses every later write and sync (see store rules).
 */
export interface RandomAccessFile {
  /** Bytes. */
  readonly size: number;
  /** Fills `target` from `offset`; reading past the end is an error. */
  read(offset: number, target: Uint8Array): Completion;
  write(offset: number, data: Uint8Array): Completion;
  /** The range reads as zeroes afterwards; its space is kept, or given back where possible. */
  zero(offset: number, length: number, space: 'keep' | 'release'): Completion;
  /** Holes and data of a range, covering it exactly, in order. */
  extents(offset: number, length: number): Extent[];
  /** Grows or shrinks the file; new space reads as zeroes, and is allocated if asked. Durable after a sync. */
  resize(size: number, space: 'allocate' | 'sparse'): Promise<void>;
  /** Completes when every write that completed before the call is on stable storage. Concurrent calls share one sync. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /** Create it with this size if it does not exist; without it, a missing file is NotFound. */
  readonly create?: { readonly size: number; readonly space: 'allocate' | 'sparse' };
  /** Writes never hold up the calling thread, however slow the disk is; for files that nobody waits for. */
  readonly background?: boolean;
}

/** One folder of files, addressed by plain names. Creation, renaming and removal are durable when they complete. */
export interface StorageDirectory {
  open(name: string, options?: OpenOptions): Promise<RandomAccessFile>;
  /** The whole content, or undefined if there is no such file. */
  readFile(name: string): Promise<Uint8Array | undefined>;
  /** Replaces the content as a whole: after a crash it is the old or the new one. */
  writeFile(name: string, content: Uint8Array): Promise<void>;
  remove(name: string): Promise<void>;
  list(): Promise<string[]>;
  /** Bytes on the file system in all, and free for new files. */
  space(): Promise<{ totalBytes: number; freeBytes: number }>;
}
