import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { acceptedField, bytesField, durationField, objectNameField } from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource } from './resource.ts';
import { exactlyOneRule, immutableRule } from './rules.ts';
import { hooksStatusSchema, snapshotHooksSchema } from './snapshot-hooks.ts';

export const snapshotSourceSchema = z.object({
  mirror: objectNameField(
    'A StandbyMirror: the snapshot is taken on its standby and equals the primary at its barrier.',
  ).optional(),
  volume: objectNameField('A PrimaryVolume with a buffer of its own: the snapshot is taken on the primary.').optional(),
});

const lullSchema = z.object({
  quietFor: durationField('How long the write stream must be quiet.').default('200ms'),
  thresholdPerSecond: z
    .union([z.int().min(0), z.string().regex(/^[0-9]+(\.[0-9]{1,9})?(|[kMGTPE]|[KMGTPE]i)$/)])
    .default(0)
    .meta({
      description: 'It counts as quiet when no more bytes than this are written in a second.',
      'x-kubernetes-int-or-string': true,
    }),
  timeout: durationField('How long to wait for it, at most an hour.').default('30s'),
  onTimeout: z
    .enum(['Take', 'Fail', 'Skip'])
    .default('Take')
    .meta({ description: 'If it does not come: Take the snapshot anyway; Fail, and wait again; or Skip it for good.' }),
});

export const snapshotConsistencySchema = z.object({
  lull: lullSchema.optional().meta({ description: 'Wait for a stretch of quiet in the write stream first.' }),
  freeze: z
    .object({ timeout: durationField('For how long at most, up to one minute.').default('5s') })
    .optional()
    .meta({ description: 'Freeze the mounted filesystem around the barrier.' }),
  hooks: snapshotHooksSchema.optional().meta({
    description:
      'Run commands in pods before and after. The operator needs a right for it: operator.hooks of the chart.',
  }),
});

export const snapshotSpecSchema = z.object({
  source: snapshotSourceSchema.meta({ description: 'What the snapshot is taken of.' }),
  consistency: snapshotConsistencySchema
    .prefault({})
    .meta({ description: 'What to wait for and to hold still. Without anything: the moment it is asked for.' }),
  retention: z
    .object({ deleteAfter: durationField('The object deletes itself when the snapshot has this age.') })
    .optional()
    .meta({ description: 'When the snapshot goes. Without it: when the object is deleted.' }),
  claim: z.boolean().default(true).meta({
    description:
      'Whether the operator makes a PersistentVolume and a PersistentVolumeClaim (ReadOnlyMany) of it, for pods to read it.',
  }),
  claimName: objectNameField('The name of that claim. Without it, the name of this object.').optional(),
});

export const snapshotStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  node: z.string().optional().meta({ description: 'The node that holds the snapshot.' }),
  volume: z.string().optional().meta({ description: 'The name of the volume at the agents.' }),
  snapshot: z.string().optional().meta({ description: 'The name of the snapshot at the agents.' }),
  copy: z.string().optional().meta({ description: 'The copy of the volume that holds it.' }),
  requestedFrom: z.string().optional().meta({ description: 'The node of the agent that was asked to take it.' }),
  takenAt: z.string().optional().meta({ description: 'The moment of its barrier.', format: 'date-time' }),
  consistency: z
    .enum(['crash', 'filesystem', 'application'])
    .optional()
    .meta({
      description:
        'crash: as after a power cut. filesystem: the filesystem was frozen at the barrier. application: pre hooks had ' +
        'succeeded, and held until after the barrier.',
    }),
  lull: z
    .object({
      found: z.boolean().meta({ description: 'Whether it came.' }),
      waitedMilliseconds: z.int().meta({ description: 'How long it was waited for.', format: 'int64' }),
      bytesPerSecond: bytesField('What was written in the stretch before the barrier, as a rate.'),
    })
    .optional()
    .meta({ description: 'Of the lull that was waited for.' }),
  frozenMilliseconds: z
    .int()
    .optional()
    .meta({ description: 'For how long the filesystem was frozen.', format: 'int64' }),
  hooks: hooksStatusSchema.optional().meta({ description: 'Of the last attempt with hooks.' }),
  sizeBytes: bytesField('The size of the volume at that moment.').optional(),
  bufferBytes: bytesField('Bytes in the buffer that it reads, its own and shared ones.').optional(),
  exclusiveBytes: bytesField('Bytes that deleting it would free.').optional(),
  persistentVolumeName: z.string().optional().meta({ description: 'The PersistentVolume made of it.' }),
  claimName: z.string().optional().meta({ description: 'The PersistentVolumeClaim made of it, in this namespace.' }),
  readers: z.int().optional().meta({ description: 'Connections that read it now.' }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when the snapshot was asked for.'),
  conditions: conditionsField,
});

export type SnapshotSpec = z.output<typeof snapshotSpecSchema>;
export type SnapshotStatus = z.output<typeof snapshotStatusSchema>;
export type Snapshot = CustomObject<SnapshotSpec, SnapshotStatus>;

export const snapshots: CustomResource<SnapshotSpec, SnapshotStatus> = {
  group,
  version,
  kind: 'Snapshot',
  plural: 'snapshots',
  singular: 'snapshot',
  shortNames: ['usnap'],
  namespaced: true,
  statusSubresource: true,
  description:
    'A point in the write stream of a volume, kept on its standby (or on the volume itself) until it is deleted.',
  spec: snapshotSpecSchema,
  status: snapshotStatusSchema,
  immutable: ['source', 'consistency', 'claimName'],
  rules: [
    exactlyOneRule<SnapshotSpec>('source', (spec) => spec.source, 'mirror', 'volume'),
    immutableRule<SnapshotSpec>('source', false),
    immutableRule<SnapshotSpec>('consistency', false),
    immutableRule<SnapshotSpec>('claimName', true),
  ],
  printerColumns: [
    { name: 'Mirror', type: 'string', jsonPath: '.spec.source.mirror', description: 'The mirror it is taken on.' },
    {
      name: 'Volume',
      type: 'string',
      jsonPath: '.spec.source.volume',
      description: 'The volume it is taken on.',
      priority: 1,
    },
    { name: 'Node', type: 'string', jsonPath: '.status.node', description: 'Where it is.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether it can be read.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why it is ready or not.',
    },
    { name: 'Taken', type: 'date', jsonPath: '.status.takenAt', description: 'Time since its barrier.' },
    { name: 'Claim', type: 'string', jsonPath: '.status.claimName', description: 'What pods read it through.' },
    {
      name: 'Consistency',
      type: 'string',
      jsonPath: '.status.consistency',
      description: 'crash, filesystem or application.',
    },
    {
      name: 'Bytes',
      type: 'integer',
      jsonPath: '.status.bufferBytes',
      description: 'Bytes in the buffer that it reads.',
    },
    { name: 'Readers', type: 'integer', jsonPath: '.status.readers', description: 'Who reads it now.', priority: 1 },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
