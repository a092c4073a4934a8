import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { acceptedField, bytesField, objectNameField } from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource } from './resource.ts';
import { immutableRule } from './rules.ts';

export const snapshotRestoreSpecSchema = z.object({
  snapshot: objectNameField('The Snapshot to whose content its volume is put back, in the same namespace.'),
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
  primaryVolume: z.string().optional().meta({ description: 'The PrimaryVolume that is restored.' }),
  volume: z.string().optional().meta({ description: 'The name of the volume at the agents.' }),
  restore: z
    .string()
    .optional()
    .meta({ description: 'The name of the restore at the agents; there once it is ordered.' }),
  node: z.string().optional().meta({ description: 'The node of the primary, which restores.' }),
  before: z.string().optional().meta({ description: 'The Snapshot that keeps what was there before.' }),
  progress: z
    .object({
      totalBytes: bytesField('Bytes that have changed since the snapshot.'),
      checkedBytes: bytesField('Bytes of them that have been compared.'),
      writtenBytes: bytesField('Bytes that differed and were written.'),
      percent: z.int().meta({ description: 'How much has been compared.' }),
    })
    .optional()
    .meta({ description: 'How far it is.' }),
  startedAt: z.string().optional().meta({ description: 'When the primary began.', format: 'date-time' }),
  completedAt: z.string().optional().meta({ description: 'When it was over.', format: 'date-time' }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when it was ordered.'),
  conditions: conditionsField,
});

export type SnapshotRestoreSpec = z.output<typeof snapshotRestoreSpecSchema>;
export type SnapshotRestoreStatus = z.output<typeof snapshotRestoreStatusSchema>;
export type SnapshotRestore = CustomObject<SnapshotRestoreSpec, SnapshotRestoreStatus>;

export const snapshotRestores: CustomResource<SnapshotRestoreSpec, SnapshotRestoreStatus> = {
  group,
  version,
  kind: 'SnapshotRestore',
  plural: 'snapshotrestores',
  singular: 'snapshotrestore',
  shortNames: ['urestore'],
  namespaced: true,
  statusSubresource: true,
  description: 'Puts a PrimaryVolume back, in place, to what one of its Snapshots holds. It happens once.',
  spec: snapshotRestoreSpecSchema,
  status: snapshotRestoreStatusSchema,
  immutable: ['snapshot', 'keepBefore', 'allowInUse'],
  rules: (['snapshot', 'keepBefore', 'allowInUse'] as const).map((field) =>
    immutableRule<SnapshotRestoreSpec>(field, false),
  ),
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
