import { z } from 'zod';
import { addressSchema, epochSchema, nameSchema, sizeSchema } from './fields.ts';
import { fillingViewSchema, fillOriginSchema } from './filling.ts';
import { restoreViewSchema } from './restore.ts';
import { verificationViewSchema } from './verification.ts';

export const roleSchema = z.enum(['primary', 'standby']);
export const mirrorModeSchema = z.enum(['synchronous', 'asynchronous']);

export const bufferSpecSchema = z.strictObject({
  pool: nameSchema,
  capacity: sizeSchema,
  /** Snapshots kept at a time; one more is refused. */
  maxSnapshots: z.number().int().min(1).max(512).default(32),
});

/** Where an asynchronous mirror keeps what there is no room for in memory. */
export const journalSpecSchema = z.strictObject({
  /** The volume's own pool unless told. */
  pool: nameSchema.optional(),
  /** Reserved at once. When it is full, the mirror falls back to a resync. */
  capacity: sizeSchema.refine((bytes) => bytes >= 1024 * 1024, 'expected at least 1Mi'),
});

export const mirrorSpecSchema = z.strictObject({
  name: nameSchema,
  /** The mirror listener of the standby's agent. */
  address: addressSchema,
  mode: mirrorModeSchema,
  /** At most so much is read a second for a resync of this mirror; without it, what the agent's configuration says. */
  resyncBytesPerSecond: sizeSchema.optional(),
  /** Of an asynchronous mirror; 256Mi in the volume's pool unless told. */
  journal: journalSpecSchema.optional(),
  /** Of what goes over the link of an asynchronous mirror; none unless told. */
  compression: z.enum(['none', 'zstd']).optional(),
});

/** PUT /v1/volumes/{volume}: what this copy of the volume should be. Idempotent. */
export const volumeSpecSchema = z.strictObject({
  size: sizeSchema,
  pool: nameSchema,
  role: roleSchema,
  epoch: epochSchema,
  /** Identity of the volume across all copies: another uid is another volume, even under the same name. */
  uid: z.string().min(1).max(64).optional(),
  /** Logical block size in bytes; the same on every copy, fixed at creation. */
  blockSize: z.union([z.literal(512), z.literal(4096)]).default(512),
  /** thick reserves all space at creation; sparse allocates as it is written, and can run out. */
  provisioning: z.enum(['thick', 'sparse']).default('thick'),
  buffer: bufferSpecSchema.optional(),
  /**
   * Of a new primary: it begins with the content of this snapshot, and zeroes behind it. It can be used at once: what it does
   * not have yet is read there. The snapshot has to be held for this volume first (PUT …/holds/{the volume's name}).
   */
  source: fillOriginSchema.optional(),
  /** Those of a standby (a cascade) are asynchronous: they pass on what the standby applies. */
  mirrors: z.array(mirrorSpecSchema).max(16).default([]),
  /**
   * Where the arbiter of this agent keeps its record of the volume; for the arbiter "kubernetes" the namespace and name of
   * a PrimaryVolume, as in "default/data". Without it the volume has no arbiter. Once given it stays: omitting it later
   * changes nothing.
   */
  arbiterKey: z.string().min(1).max(512).optional(),
  /**
   * The nodes that have copies of the volume: a mirror link is made with none but them. Without it what was said before
   * stays; while nothing was said, every node of the cluster may be a peer.
   */
  peers: z.array(nameSchema).min(1).max(64).optional(),
  /**
   * What a primary does when it loses a synchronous standby. suspend holds writes until the standby is back. continue goes
   * on alone and records what the standby misses: with an arbiter when that has marked the standby Outdated, else at once.
   */
  onLoss: z.enum(['suspend', 'continue']).default('suspend'),
  /**
   * An explicit order for a promotion: make a standby primary even though it may miss acknowledged writes. Without it
   * only a standby that is clean and consistent is promoted.
   */
  acceptDataLoss: z.boolean().default(false),
  /** What becomes of those who read snapshots of the copy when its role changes: they go on, or are cut off. */
  readers: z.enum(['keep', 'disconnect']).default('keep'),
});

export const mirrorStateSchema = z.enum(['Connecting', 'Resyncing', 'InSync', 'Outdated', 'Fenced', 'Lagging']);
/** Suspended: writes wait for a standby. Fenced: a newer epoch exists. Failed: the disk of this copy failed for good. */
export const volumeStateSchema = z.enum(['Recovering', 'Ready', 'Suspended', 'Fenced', 'Failed']);

export const mirrorViewSchema = z.object({
  name: z.string(),
  address: z.string(),
  mode: mirrorModeSchema,
  state: mirrorStateSchema,
  /** Bytes that the standby is known to miss, to be copied by the resync under way or the next one. */
  dirtyBytes: z.number(),
  /** Bytes sent or queued and not yet held by the standby. */
  lagBytes: z.number(),
  /** Of an asynchronous mirror: age of the oldest write that the standby does not hold, in seconds. */
  lagSeconds: z.number().optional(),
  /** Of an asynchronous mirror: its journal, and how much of it is used. */
  journal: z.object({ pool: z.string().optional(), capacity: z.number(), usedBytes: z.number().optional() }).optional(),
  compression: z.enum(['none', 'zstd']).optional(),
  /** Progress of the resync under way. */
  resync: z.object({ copiedBytes: z.number(), totalBytes: z.number() }).optional(),
  /** The limit on resyncs that is in force. */
  resyncBytesPerSecond: z.number().optional(),
  /** The last verification since the primary was started. */
  verification: verificationViewSchema.optional(),
  /** Why it is not in sync, for people. */
  lastError: z.string().optional(),
});

export const snapshotViewSchema = z.object({
  name: z.string(),
  /** Waiting: the barrier is still to come. Invalid: its content is lost, see reason. */
  state: z.enum(['Waiting', 'Ready', 'Invalid']),
  valid: z.boolean(),
  /** RFC 3339 time of the barrier. */
  takenAt: z.string().optional(),
  /** Size of the volume when it was taken, in bytes. */
  size: z.number().optional(),
  /** crash: as after a power cut. filesystem: the mounted filesystem was frozen at the barrier. */
  consistency: z.enum(['crash', 'filesystem']).optional(),
  /** The `hooks` of the request whose barrier made it. */
  hooks: z.string().optional(),
  /** How long a lull was waited for, whether it came, and how much was written meanwhile; while the agent remembers. */
  lull: z.object({ found: z.boolean(), waitedMs: z.number(), bytesPerSecond: z.number() }).optional(),
  /** How long the filesystem was held still; while the agent remembers. */
  frozenMs: z.number().optional(),
  /** Bytes in the buffer that this snapshot reads, its own and shared with older ones. */
  bufferBytes: z.number(),
  /** Bytes that deleting it would free. */
  exclusiveBytes: z.number(),
  /** NBD connections that read it now. */
  readers: z.number(),
  /** Pods (namespace/name) that it is mounted for, or kept for; it is not deleted before they are gone. */
  usedBy: z.array(z.string()).optional(),
  reason: z.string().optional(),
});

export const volumeViewSchema = z.object({
  volume: z.string(),
  uid: z.string().optional(),
  role: roleSchema,
  epoch: z.number(),
  size: z.number(),
  blockSize: z.number(),
  pool: z.string(),
  state: volumeStateSchema,
  /** Path of the unix socket with the exports <volume> and <volume>@<snapshot>. */
  nbd: z.string(),
  /** A standby is consistent unless a resync into it is unfinished; a primary always is. */
  consistent: z.boolean(),
  /** The copy holds every write acknowledged to its knowledge: not outdated, nothing lost in an unclean restart. */
  clean: z.boolean(),
  /** The epoch for which this standby has been prepared for promotion. */
  prepared: z.number().optional(),
  /** The highest epoch of which this standby has writes; 0: it has never been in sync with any primary. */
  dataEpoch: z.number().optional(),
  attached: z.boolean(),
  /** The epoch in which this copy became the primary; it may have been given newer ones since. */
  primarySince: z.number().optional(),
  /** available: this agent has an arbiter. key: where that keeps its record of the volume, if it has one. */
  arbiter: z.object({ available: z.boolean(), key: z.string().optional() }).optional(),
  lastError: z.string().optional(),
  /** A standby's view of its link to the primary. connected: something has been heard of it in the last ten seconds. */
  link: z.object({ connected: z.boolean(), peer: z.string().optional(), state: mirrorStateSchema }).optional(),
  /** The restore under way, or the last one. */
  restore: restoreViewSchema.optional(),
  /** Of a volume that was made with the content of a snapshot: how far it is. */
  filling: fillingViewSchema.optional(),
  mirrors: z.array(mirrorViewSchema),
  /** The nodes with which mirror links are made; undefined while any may be one. */
  peers: z.array(z.string()).optional(),
  snapshots: z.array(snapshotViewSchema),
  buffer: z
    .object({ pool: z.string(), usedBytes: z.number(), capacityBytes: z.number(), maxSnapshots: z.number() })
    .optional(),
});

/** POST /v1/volumes/{volume}/prepare: from now on this standby refuses every epoch below the given one. */
export const prepareRequestSchema = z.strictObject({ epoch: epochSchema });
export const prepareResultSchema = z.object({
  epoch: z.number(),
  /** See the volume's view; both must be true for a promotion without an explicit order to accept a loss. */
  clean: z.boolean(),
  consistent: z.boolean(),
  /** The highest epoch of which this copy has writes. */
  dataEpoch: z.number(),
});

export type VolumeSpecInput = z.input<typeof volumeSpecSchema>;
export type VolumeSpec = z.output<typeof volumeSpecSchema>;
export type BufferSpec = z.output<typeof bufferSpecSchema>;
export type JournalSpec = z.output<typeof journalSpecSchema>;
export type MirrorSpec = z.output<typeof mirrorSpecSchema>;
export type MirrorState = z.output<typeof mirrorStateSchema>;
export type MirrorView = z.output<typeof mirrorViewSchema>;
export type VolumeState = z.output<typeof volumeStateSchema>;
export type VolumeView = z.output<typeof volumeViewSchema>;
export type SnapshotView = z.output<typeof snapshotViewSchema>;
export type PrepareResult = z.output<typeof prepareResultSchema>;
