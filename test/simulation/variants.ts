import type { Connection, ConnectionHandler } from '../../agent/core/connection.ts';
import type { RandomAccessFile, StorageDirectory } from '../../agent/core/storage.ts';
import type { Arbiter } from '../../agent/mirror/arbiter.ts';
import { FrameParser, HeaderEncoder } from '../../agent/mirror/frame-codec.ts';
import { frameTypes } from '../../agent/mirror/protocol.ts';
import type { VolumeRecord } from '../../agent/volume/volume-record.ts';
import type { Clock } from '../../common/clock.ts';
import type { SimulatedDisk } from '../support/simulated-storage.ts';
import type { FollowerKind } from './world.ts';

/**
 * A defect built in on purpose, between the system and its ports. The checkers have to find each of them: a simulation
 * that cannot fail proves nothing.
 */
export interface Variant {
  /** A seed that finds it at once, as long as the simulation is not changed. */
  readonly seed?: number;
  /** Instead of what the seed decides. */
  readonly follower?: FollowerKind;
  arbiter?(arbiter: Arbiter): Arbiter;
  /** The standby's end of a link. */
  connection?(connection: Connection, clock: Clock): Connection;
  /** The record of a copy whose process starts. */
  record?(record: VolumeRecord): VolumeRecord;
  dataDirectory?(directory: StorageDirectory, role: 'primary' | 'standby'): StorageDirectory;
  /** Of the copy behind an asynchronous mirror. */
  followerDirectory?(directory: StorageDirectory): StorageDirectory;
  beforeStart?(disk: SimulatedDisk): Promise<void>;
}

export const honest: Variant = {};

/** By name; each says what it does wrong. */
export const defects: Readonly<Record<string, Variant>> = {
  'the arbiter grants without marking': {
    seed: 2,
    arbiter: (arbiter) => ({ ...arbiter, markOutdated: async () => 'granted' }),
  },
  'a standby says that it holds what it has not got': {
    seed: 18,
    connection: (connection, clock) => heldEarly(connection, clock),
  },
  'a standby skips a write': {
    seed: 0,
    dataDirectory: (directory, role) => (role === 'standby' ? wrapFiles(directory, skipWrites(20)) : directory),
  },
  'a standby does not sync': {
    seed: 0,
    dataDirectory: (directory, role) =>
      role === 'standby' ? wrapFiles(directory, () => ({ sync: async () => undefined })) : directory,
  },
  'a primary does not sync': {
    seed: 0,
    dataDirectory: (directory, role) =>
      role === 'primary' ? wrapFiles(directory, () => ({ sync: async () => undefined })) : directory,
  },
  'a standby counts as clean after an unclean end': {
    seed: 112,
    record: (record) => ({ ...record, running: false }),
  },
  'a primary forgets whom it needs': {
    seed: 2,
    record: (record) => ({
      ...record,
      mirrorRecords: record.mirrorRecords.map((known) => ({ ...known, needed: false })),
    }),
  },
  'a primary forgets its write-intent bitmap': {
    seed: 2,
    beforeStart: (disk) => disk.remove('intent'),
  },
  'a copy forgets that it is being restored': {
    seed: 20_097,
    record: ({ restore: _, ...record }) => record,
  },
  'a copy behind an asynchronous mirror does not sync': {
    seed: 10_001,
    follower: 'primary',
    followerDirectory: (directory) => wrapFiles(directory, () => ({ sync: async () => undefined })),
  },
  'a copy at the end of a cascade skips a write': {
    seed: 10_000,
    follower: 'cascade',
    followerDirectory: (directory) => wrapFiles(directory, skipWrites(20)),
  },
};

/** Changes what the data files of a folder do. */
function wrapFiles(
  directory: StorageDirectory,
  change: (file: RandomAccessFile) => Partial<RandomAccessFile>,
): StorageDirectory {
  return {
    open: async (name, options) => {
      const file = await directory.open(name, options);
      if (name !== 'data') return file;
      const changed: RandomAccessFile = {
        get size() {
          return file.size;
        },
        read: (offset, target) => file.read(offset, target),
        write: (offset, data) => file.write(offset, data),
        zero: (offset, length, space) => file.zero(offset, length, space),
        extents: (offset, length) => file.extents(offset, length),
        resize: (size, space) => file.resize(size, space),
        sync: () => file.sync(),
        close: () => file.close(),
        ...change(file),
      };
      return changed;
    },
    readFile: (name) => directory.readFile(name),
    writeFile: (name, content) => directory.writeFile(name, content),
    remove: (name) => directory.remove(name),
    list: () => directory.list(),
    space: () => directory.space(),
  };
}

function skipWrites(each: number): (file: RandomAccessFile) => Partial<RandomAccessFile> {
  let writes = 0;
  return (file) => ({
    write: (offset, data) => {
      writes += 1;
      return writes % each === 0 ? undefined : file.write(offset, data);
    },
  });
}

/** Answers for what has come in at once, and passes it on later. */
function heldEarly(connection: Connection, clock: Clock): Connection {
  const parser = new FrameParser();
  const headers = new HeaderEncoder();
  let closed = false;
  return {
    send: (...pieces) => connection.send(...pieces),
    flush: () => connection.flush(),
    get queuedBytes() {
      return connection.queuedBytes;
    },
    pause: () => undefined,
    resume: () => undefined,
    destroy: (reason) => {
      closed = true;
      connection.destroy(reason);
    },
    handle(handler: ConnectionHandler) {
      connection.handle({
        received(bytes) {
          const sequence = Math.max(0, ...parser.push(bytes).map((frame) => frame.sequence));
          if (sequence > 0) connection.send(headers.encode(frameTypes.held, 0, 0, sequence));
          clock.after(40, () => {
            if (!closed) handler.received(bytes);
          });
        },
        drained: () => handler.drained(),
        closed(reason) {
          closed = true;
          handler.closed(reason);
        },
      });
    },
  };
}
