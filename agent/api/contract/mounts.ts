import { z } from 'zod';

export const fsTypeSchema = z.enum(['ext4', 'xfs', 'btrfs']);

/** An absolute path without "." or ".." parts. */
const targetSchema = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, 'expected an absolute path')
  .refine((path) => !path.split('/').some((part) => part === '.' || part === '..'), 'must not contain "." or ".."');

const optionsSchema = z.array(z.string().regex(/^[A-Za-z0-9_=.,:/-]{1,128}$/)).max(32);

/** PUT /v1/volumes/{volume}/mounts/{mount}: mounts the live volume of a primary. Idempotent. */
export const volumeMountSchema = z.strictObject({
  target: targetSchema,
  fsType: fsTypeSchema.default('ext4'),
  /** Make a filesystem first if the volume is provably blank. A volume that holds anything is never formatted. */
  format: z.boolean().default(false),
  readOnly: z.boolean().default(false),
  options: optionsSchema.default([]),
});

/**
 * PUT /v1/volumes/{volume}/snapshots/{snapshot}/mounts/{mount}: mounts a snapshot read-only, over a scratch overlay in
 * which the filesystem's journal has been replayed. Idempotent.
 */
export const snapshotMountSchema = z.strictObject({ target: targetSchema, options: optionsSchema.default([]) });

export const mountViewSchema = z.object({
  mount: z.string(),
  volume: z.string(),
  snapshot: z.string().optional(),
  target: z.string(),
  device: z.string(),
  fsType: z.string(),
  readOnly: z.boolean(),
});

export type FsType = z.output<typeof fsTypeSchema>;
export type VolumeMount = z.output<typeof volumeMountSchema>;
export type SnapshotMount = z.output<typeof snapshotMountSchema>;
export type MountView = z.output<typeof mountViewSchema>;
