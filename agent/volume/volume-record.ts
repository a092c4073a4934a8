/**
 * What a node keeps on disk about its copy of a volume, beside the data in the same pool: who the volume is, what this
 * copy is of it, and what is known of the other copies.
 *
 * Format: the file `volume.json`, replaced as a whole, with an envelope
 * `{ "format": "understudy-volume", "version": 1, "crc32": <of the body's JSON text>, "body": "<JSON text>" }`.
 *
 * Invariants
 * - `epoch` never falls, and neither does `standby.preparedEpoch`.
 * - A record that does not match its checksum is refused: guessing what a copy is worth loses data.
 * - `running` is true from before the first write to the copy until after the last sync of an orderly stop, or of the
 *   preparation for a promotion: at a standby it begins with a resync, at a primary with its start.
 */
import { crc32 } from 'node:zlib';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import * as z from '../../common/shapes.ts';
import type { VolumeSpec } from '../api/contract/volumes.ts';
import type { StorageDirectory } from '../core/storage.ts';
import { restoreMarkerShape } from '../mirror/restore-marker.ts';

const recordFile = 'volume.json';
const formatName = 'understudy-volume';
const formatVersion = 1;

const bufferSchema = z.object({
  pool: z.string(),
  capacity: z.number().int().positive(),
  maxSnapshots: z.number().int().positive(),
});

const recordedMirrorSchema = z.object({
  name: z.string(),
  address: z.string(),
  mode: z.enum(['synchronous', 'asynchronous']),
  resyncBytesPerSecond: z.number().positive().optional(),
  journal: z.object({ pool: z.string().optional(), capacity: z.number().int().positive() }).optional(),
  compression: z.enum(['none', 'zstd']).optional(),
});

const fillOriginShape = z.object({
  volume: z.string(),
  uid: z.string().optional(),
  snapshot: z.string(),
  address: z.string(),
  node: z.string().optional(),
  /** The size of the volume when it was made: all of that is to be filled. */
  sizeBytes: z.number().int().positive(),
  state: z.enum(['Filling', 'Filled']),
});

const holdShape = z.object({ name: z.string(), snapshot: z.string(), node: z.string().optional() });

const recordSchema = z.object({
  volume: z.string(),
  uid: z.string().optional(),
  role: z.enum(['primary', 'standby']),
  epoch: z.number().int().positive(),
  size: z.number().int().positive(),
  blockSize: z.union([z.literal(512), z.literal(4096)]),
  pool: z.string(),
  provisioning: z.enum(['thick', 'sparse']),
  buffer: bufferSchema.optional(),
  mirrors: z.array(recordedMirrorSchema),
  onLoss: z.enum(['suspend', 'continue']),
  /** Where the arbiter keeps its record of the volume; without it the volume has no arbiter. */
  arbiterKey: z.string().optional(),
  /** The nodes with which mirror links are made; without it, any. */
  peers: z.array(z.string()).optional(),
  /** The epoch in which this copy became the primary; missing in records of before, and then it is the epoch itself. */
  primarySince: z.number().int().positive().optional(),
  /** What is known of the copy behind each mirror; see MirrorRecord. */
  mirrorRecords: z.array(
    z.object({ name: z.string(), baseId: z.string().optional(), scanned: z.boolean(), needed: z.boolean() }),
  ),
  /** Why this copy must not be used any more. */
  unusable: z.object({ state: z.enum(['Fenced', 'Failed']), reason: z.string() }).optional(),
  /** What this copy is worth as a standby. */
  standby: z.object({
    /** Nothing was ever written to it. */
    blank: z.boolean(),
    /** It is the image of one moment: no resync into it is unfinished. */
    consistent: z.boolean(),
    /** It holds every write acknowledged to its knowledge. */
    clean: z.boolean(),
    /** The highest epoch of which it has writes. */
    dataEpoch: z.number().int().min(0),
    baseId: z.string().optional(),
    preparedEpoch: z.number().int().positive().optional(),
    /** Where an orderly stop left the stream of an asynchronous mirror. */
    stream: z.object({ id: z.string(), position: z.number().int().min(0) }).optional(),
    /** It was the primary of this epoch, and what it had then has not been overwritten since. */
    formerEpoch: z.number().int().positive().optional(),
  }),
  /** The restore of the volume that is under way, or the last one. */
  restore: restoreMarkerShape.optional(),
  /** The snapshot of another volume with whose content this one began. */
  fill: fillOriginShape.optional(),
  /** Snapshots of this copy that are kept for volumes which are filled from them. */
  holds: z.array(holdShape).optional(),
  /** Its files have been made: one that is missing from now on is lost, and is not made anew. */
  created: z.boolean(),
  running: z.boolean(),
});

export type VolumeRecord = z.output<typeof recordSchema>;
export type FillOrigin = z.output<typeof fillOriginShape>;
export type SnapshotHold = z.output<typeof holdShape>;

/** The record of a copy that is being created. What is in its place may read as zeroes (`blank`), or as anything. */
export function newRecord(volume: string, spec: VolumeSpec, startsBlank = true): VolumeRecord {
  const { source, size } = spec;
  const blank = startsBlank && source === undefined;
  return {
    volume,
    ...settingsOf(spec),
    provisioning: spec.provisioning,
    ...(spec.role === 'primary' ? { primarySince: spec.epoch } : {}),
    mirrorRecords: [],
    ...(source === undefined ? {} : { fill: { ...source, sizeBytes: size, state: 'Filling' } }),
    standby: { blank, consistent: blank, clean: false, dataEpoch: 0 },
    created: false,
    running: false,
  };
}

/** The part of a record that a PUT decides. */
export function settingsOf(spec: VolumeSpec) {
  const { uid, role, epoch, size, blockSize, pool, buffer, mirrors, onLoss, arbiterKey, peers } = spec;
  return {
    ...(uid === undefined ? {} : { uid }),
    role,
    epoch,
    size,
    blockSize,
    pool,
    ...(buffer === undefined ? {} : { buffer }),
    mirrors,
    onLoss,
    ...(arbiterKey === undefined ? {} : { arbiterKey }),
    ...(peers === undefined ? {} : { peers }),
  };
}

export function encodeRecord(record: VolumeRecord): Buffer {
  const body = JSON.stringify(record);
  return Buffer.from(`${JSON.stringify({ format: formatName, version: formatVersion, crc32: crc32(body), body })}\n`);
}

const envelopeSchema = z.object({
  format: z.literal(formatName),
  version: z.number(),
  crc32: z.number(),
  body: z.string(),
});

/** @throws UnderstudyError Corrupt when it is not what was written, Invalid when a newer release wrote it. */
export function decodeRecord(content: Uint8Array, where: string): VolumeRecord {
  const corrupt = (cause: unknown) =>
    new UnderstudyError(
      'Corrupt',
      `${where} is damaged (${errorMessage(cause)}); restore it, or recreate this copy from another`,
      { cause },
    );
  let envelope: z.output<typeof envelopeSchema>;
  try {
    envelope = envelopeSchema.parse(JSON.parse(Buffer.from(content).toString('utf8')));
  } catch (cause) {
    throw corrupt(cause);
  }
  if (envelope.version > formatVersion) {
    throw new UnderstudyError(
      'Invalid',
      `${where} was written by a newer release (format ${envelope.version}, this one knows ${formatVersion})`,
    );
  }
  if (crc32(envelope.body) !== envelope.crc32) throw corrupt(new Error('the checksum does not match'));
  const parsed = recordSchema.safeParse(JSON.parse(envelope.body));
  if (!parsed.success) throw corrupt(new Error(parsed.error.message));
  return parsed.data;
}

/** The record in a volume's folder, or undefined if there is none. */
export async function loadRecord(directory: StorageDirectory, where: string): Promise<VolumeRecord | undefined> {
  const content = await directory.readFile(recordFile);
  return content === undefined ? undefined : decodeRecord(content, `${where}/${recordFile}`);
}

export async function saveRecord(directory: StorageDirectory, record: VolumeRecord): Promise<void> {
  await directory.writeFile(recordFile, encodeRecord(record));
}

/** The record of a running volume: changes are made one after the other, and are durable when they resolve. */
export class RecordStore {
  readonly #directory: StorageDirectory;
  #record: VolumeRecord;
  #writing: Promise<void> = Promise.resolve();

  constructor(directory: StorageDirectory, record: VolumeRecord) {
    this.#directory = directory;
    this.#record = record;
  }

  get record(): VolumeRecord {
    return this.#record;
  }

  /** Applies a change to the newest record and writes it. */
  update(change: (record: VolumeRecord) => VolumeRecord): Promise<void> {
    const written = this.#writing.then(async () => {
      const next = change(this.#record);
      await saveRecord(this.#directory, next);
      this.#record = next;
    });
    this.#writing = written.catch(() => undefined);
    return written;
  }
}
