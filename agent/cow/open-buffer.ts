import { crc32 } from 'node:zlib';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RandomAccessFile, StorageDirectory } from '../core/storage.ts';
import { BufferLayout, defaultRegionBytes } from './buffer-layout.ts';
import { none } from './chunk-table.ts';
import { decodeRecords, type IndexVisitor } from './index-codec.ts';
import { IndexLog } from './index-log.ts';
import { type IndexEnd, readIndex } from './index-reader.ts';
import { IndexReplay } from './index-replay.ts';
import { SlotAllocator } from './slot-allocator.ts';
import type { SnapshotMap } from './snapshot-map.ts';
import { decodeSuperblock, encodeSuperblock, type Superblock, superblockBytes } from './superblock-codec.ts';

export interface SnapshotBufferOptions {
  readonly directory: StorageDirectory;
  /** The volume's name. */
  readonly name: string;
  readonly capacityBytes: number;
  /** Counts when the buffer is created; afterwards the buffer knows it. */
  readonly chunkSizeBytes: number;
  /** Size of each index region; counts when the buffer is created. */
  readonly regionBytes?: number;
  readonly log: Log;
}

export function bufferFileName(volume: string): string {
  return `${volume}.cow`;
}

/** A buffer file with what its index says, ready for use. */
export interface OpenedBuffer {
  readonly file: RandomAccessFile;
  readonly layout: BufferLayout;
  readonly map: SnapshotMap;
  readonly slots: SlotAllocator;
  readonly index: IndexLog;
  /** No snapshot had this id or a higher one. */
  readonly nextId: number;
}

/**
 * Opens or creates a buffer file and reads its index.
 * @throws UnderstudyError Io, NoSpace, Invalid (written by a newer version)
 */
export async function openBufferFile(options: SnapshotBufferOptions): Promise<OpenedBuffer> {
  const { directory, name, capacityBytes, chunkSizeBytes, log } = options;
  const fresh = new BufferLayout(chunkSizeBytes, options.regionBytes ?? defaultRegionBytes);
  const create = { size: fresh.fileBytes(slotsIn(capacityBytes, chunkSizeBytes)), space: 'sparse' } as const;
  const file = await directory.open(bufferFileName(name), { create });
  try {
    const superblock = (await readSuperblock(file, name, log)) ?? (await initialise(file, fresh));
    const layout = new BufferLayout(superblock.chunkSizeBytes, superblock.regionBytes);
    const slots = slotsIn(capacityBytes, superblock.chunkSizeBytes);
    if (file.size < layout.fileBytes(slots)) await file.resize(layout.fileBytes(slots), 'sparse');
    return await load(file, superblock, layout, slots, log);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function load(
  file: RandomAccessFile,
  superblock: Superblock,
  layout: BufferLayout,
  slotLimit: number,
  log: Log,
): Promise<OpenedBuffer> {
  const { region, generation } = superblock;
  const replay = new IndexReplay(superblock.chunkSizeBytes);
  const end = await readIndex(
    file,
    { offset: layout.region(region), length: layout.regionBytes, generation },
    {
      frame(payload) {
        const wrong = decodeRecords(payload, replay);
        if (wrong === undefined) return;
        log.error({ wrong }, 'the index of the snapshot buffer has a record that makes no sense');
        replay.damaged();
      },
      damaged() {
        log.error({}, 'the index of the snapshot buffer is damaged; its snapshots are lost');
        replay.damaged();
      },
    },
  );
  // What was read may be in the page cache only; the next frame may be written when it is on stable storage.
  await file.sync();
  const { map } = replay;
  const index = new IndexLog(file, layout, map, { region, generation, offset: end.offset, sequence: end.sequence });
  await forgetUnwritten(file, layout, map, index, end, log);
  const slots = new SlotAllocator(slotLimit, usedSlots(map, log));
  return { file, layout, map, slots, index, nextId: replay.unusedId };
}

/**
 * The last frame may have reached the disk before a crash without the slots that it names. Then its commit had not ended,
 * the chunks were not overwritten, and the snapshots read them from the volume as before.
 */
async function forgetUnwritten(
  file: RandomAccessFile,
  layout: BufferLayout,
  map: SnapshotMap,
  index: IndexLog,
  end: IndexEnd,
  log: Log,
): Promise<void> {
  if (!end.lastPayload) return;
  const named: { chunk: number; slot: number; checksum: number }[] = [];
  const ignore = () => {};
  const collector: IndexVisitor = {
    preserve: (_layer, chunk, slot, checksum) => named.push({ chunk, slot, checksum }),
    forget: ignore,
    take: ignore,
    ready: ignore,
    remove: ignore,
    invalidate: ignore,
    nextId: ignore,
  };
  decodeRecords(end.lastPayload, collector);
  const content = new Uint8Array(layout.chunkSizeBytes);
  for (const { chunk, slot, checksum } of named) {
    if (slot === none || layout.slot(slot + 1) > file.size) continue;
    await file.read(layout.slot(slot), content);
    if (crc32(content) === checksum) continue;
    const layer = map.forgetSlot(chunk, slot);
    if (layer === undefined) continue;
    log.info({ chunk, slot }, 'forgetting a preserved chunk that was not complete before the crash');
    index.records.forget(layer, chunk);
  }
}

function* usedSlots(map: SnapshotMap, log: Log): Iterable<number> {
  const { table } = map;
  const owners = new Map<number, number>();
  for (let entry = 0; entry < table.upperBound; entry += 1) {
    if (!table.isUsed(entry)) continue;
    const slot = table.slotOf(entry);
    if (slot === none) continue;
    // Checksums would find out at the first read; it is a defect of ours all the same.
    if (owners.has(slot)) log.error({ slot }, 'two chunks are said to be in one slot of the snapshot buffer');
    owners.set(slot, entry);
    yield slot;
  }
}

/** The valid superblock with the highest generation, or undefined if the file has none. */
async function readSuperblock(file: RandomAccessFile, name: string, log: Log): Promise<Superblock | undefined> {
  let newest: Superblock | undefined;
  let blank = true;
  for (const copy of [0, 1] as const) {
    const block = new Uint8Array(superblockBytes);
    await file.read(copy * superblockBytes, block);
    blank &&= block.every((byte) => byte === 0);
    const superblock = decodeSuperblock(block);
    if (typeof superblock === 'number') {
      throw new UnderstudyError(
        'Invalid',
        `the snapshot buffer of ${name} has format ${superblock}, which this version does not know: upgrade it`,
      );
    }
    if (superblock !== 'damaged' && superblock.generation > (newest?.generation ?? 0)) newest = superblock;
  }
  if (!newest && !blank) {
    log.error({ volume: name }, 'both superblocks of the snapshot buffer are damaged: its snapshots are lost');
  }
  return newest;
}

async function initialise(file: RandomAccessFile, layout: BufferLayout): Promise<Superblock> {
  const { chunkSizeBytes, regionBytes } = layout;
  const superblock = { chunkSizeBytes, regionBytes, generation: 1, region: 0 } as const;
  await file.zero(layout.region(0), 2 * regionBytes, 'release');
  await file.sync();
  for (const copy of [0, 1] as const) await file.write(layout.superblock(copy), encodeSuperblock(superblock));
  await file.sync();
  return superblock;
}

function slotsIn(capacityBytes: number, chunkSizeBytes: number): number {
  return Math.floor(capacityBytes / chunkSizeBytes);
}
