import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { acceptedField, bytesField, objectNameField, quantityField } from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import { primaryVolumeSpecSchema } from './primary-volume.ts';
import type { CustomResource, SpecRule } from './resource.ts';
import { immutableRule } from './rules.ts';

/** What the content decides is not asked for: it is as it was at the volume that the snapshot is of. */
export const newVolumeSchema = primaryVolumeSpecSchema
  .omit({ source: true, size: true, volumeMode: true, fsType: true, blockSize: true })
  .extend({
    name: objectNameField('The name of the PrimaryVolume that is made.'),
    size: quantityField(
      'Its size: at least that of the snapshot, which it is unless told. What is behind reads as zeroes; the filesystem does not grow by itself.',
    ).optional(),
  });

export const snapshotRestoreSpecSchema = z.object({
  snapshot: objectNameField(
    'The Snapshot to whose content its volume is put back, or with which a new volume begins, in the same namespace.',
  ),
  newVolume: newVolumeSchema.optional().meta({
    description:
      'A PrimaryVolume that is made with the content of the snapshot, instead of putting its volume back. It can be used at once: what it does not have yet is read from the snapshot.',
  }),
  keepBefore: z.boolean().default(true).meta({
    description: 'Whether what was there before is kept, as the Snapshot before-restore-<name>, beside the other one.',
  }),
  allowInUse: z.boolean().default(false).meta({
    description:
      'Restore although the volume is in use. What its users have in memory does not fit to it any more: for emergencies.',
  }),
});

export const snapshotRestoreStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  primaryVolume: z.string().optional().meta({ description: 'The PrimaryVolume that is restored, or filled.' }),
  volume: z.string().optional().meta({ description: 'The name of the volume at the agents.' }),
  restore: z
    .string()
    .optional()
    .meta({ description: 'The name of the restore at the agents; there once it is ordered.' }),
  node: z.string().optional().meta({ description: 'The node of the primary, which restores.' }),
  before: z.string().optional().meta({ description: 'The Snapshot that keeps what was there before.' }),
  source: z
    .object({
      node: z.string().meta({ description: 'The node that keeps the snapshot.' }),
      volume: z.string().meta({ description: 'The name there of the volume that it is of.' }),
      uid: z.string().meta({ description: 'The uid of that volume.' }),
      snapshot: z.string().meta({ description: 'The name of the snapshot there.' }),
      heldFor: z.string().optional().meta({ description: 'The node that may read it.' }),
    })
    .optional()
    .meta({ description: 'With newVolume: where its content comes from.' }),
  progress: z
    .object({
      totalBytes: bytesField('Bytes that have changed since the snapshot, or that are to be filled.'),
      checkedBytes: bytesField('Bytes of them that have been compared, or filled.'),
      writtenBytes: bytesField('Bytes that differed and were written, or that were filled.'),
      percent: z.int().meta({ description: 'How much has been compared, or filled.' }),
    })
    .optional()
    .meta({ description: 'How far it is.' }),
  startedAt: z.string().optional().meta({ description: 'When the primary began.', format: 'date-time' }),
  completedAt: z.string().optional().meta({ description: 'When it was over.', format: 'date-time' }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when it was ordered.'),
  conditions: conditionsField,
});

export type SnapshotRestoreSpec = z.output<typeof snapshotRestoreSpecSchema>;
export type NewVolume = z.output<typeof newVolumeSchema>;
export type SnapshotRestoreStatus = z.output<typeof snapshotRestoreStatusSchema>;
export type SnapshotRestore = CustomObject<SnapshotRestoreSpec, SnapshotRestoreStatus>;

const newVolumeRules: SpecRule<SnapshotRestoreSpec>[] = [
  {
    field: 'newVolume.name',
    expected: 'the value it was created with: it cannot change',
    cel: 'has(self.newVolume) == has(oldSelf.newVolume) && (!has(self.newVolume) || self.newVolume.name == oldSelf.newVolume.name)',
    got: ({ newVolume }, old) =>
      old === undefined || newVolume?.name === old.newVolume?.name ? undefined : String(newVolume?.name),
  },
  {
    field: 'newVolume',
    expected: 'exactly one of nodeName and nodeSelector',
    cel: '!has(self.newVolume) || has(self.newVolume.nodeName) != has(self.newVolume.nodeSelector)',
    got: ({ newVolume }) => {
      if (newVolume === undefined || (newVolume.nodeName === undefined) !== (newVolume.nodeSelector === undefined))
        return undefined;
      return newVolume.nodeName === undefined ? 'neither' : 'both';
    },
  },
];

export const snapshotRestores: CustomResource<SnapshotRestoreSpec, SnapshotRestoreStatus> = {
  group,
  version,
  kind: 'SnapshotRestore',
  plural: 'snapshotrestores',
  singular: 'snapshotrestore',
  shortNames: ['urestore'],
  namespaced: true,
  statusSubresource: true,
  description:
    'Puts a PrimaryVolume back, in place, to what one of its Snapshots holds, or makes a new one with that content. It happens once.',
  spec: snapshotRestoreSpecSchema,
  status: snapshotRestoreStatusSchema,
  immutable: ['snapshot', 'keepBefore', 'allowInUse', 'newVolume'],
  rules: (['snapshot', 'keepBefore', 'allowInUse'] as const)
    .map((field) => immutableRule<SnapshotRestoreSpec>(field, false))
    .concat(newVolumeRules),
  printerColumns: [
    { name: 'Snapshot', type: 'string', jsonPath: '.spec.snapshot', description: 'To what.' },
    { name: 'Volume', type: 'string', jsonPath: '.status.primaryVolume', description: 'What is restored.' },
    { name: 'Progress%', type: 'integer', jsonPath: '.status.progress.percent', description: 'How far it is.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether it is done.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why it is done or not.',
    },
    {
      name: 'Before',
      type: 'string',
      jsonPath: '.status.before',
      description: 'The Snapshot that keeps what was there.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
