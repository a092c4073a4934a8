import { z } from 'zod';
import { arbiterRecordSchema } from '../../agent/api/contract/arbiter-record.ts';
import { fsTypeSchema } from '../../agent/api/contract/mounts.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { conditionsField } from './conditions.ts';
import {
  acceptedField,
  bufferField,
  bytesField,
  mountOptionsField,
  nodeNameField,
  nodeSelectorField,
  objectNameField,
  poolField,
  quantityField,
  storageClassField,
} from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource, SpecRule } from './resource.ts';
import {
  bufferNeverShrinksRule,
  bufferStaysRule,
  exactlyOneRule,
  immutableRule,
  sizeNeverShrinksRule,
} from './rules.ts';

export const primaryVolumeSpecSchema = z.object({
  size: quantityField('The size of the volume, a multiple of 4096 bytes. It can grow, never shrink.'),
  nodeName: nodeNameField(
    'The node on which the volume is created. After a failover, status.node says where it is.',
  ).optional(),
  nodeSelector: nodeSelectorField(
    'Labels of the nodes on which it may be created: of those that have the pool, the one with the least in it is taken. Instead of nodeName.',
  ).optional(),
  pool: poolField('The pool, on that node, in which the volume lives.').default('main'),
  volumeMode: z
    .enum(['Filesystem', 'Block'])
    .default('Filesystem')
    .meta({ description: 'What consumers get: a mounted filesystem or the raw block device.' }),
  fsType: fsTypeSchema.default('ext4').meta({ description: 'The filesystem, for volumeMode Filesystem.' }),
  blockSize: z
    .union([z.literal(512), z.literal(4096)])
    .default(512)
    .meta({ description: 'The logical block size in bytes, the same on every copy.' }),
  provisioning: z
    .enum(['Thick', 'Sparse'])
    .default('Thick')
    .meta({ description: 'Thick reserves all space at creation. Sparse allocates as it is written, and can run out.' }),
  buffer: bufferField
    .optional()
    .meta({ description: 'A snapshot buffer for the volume itself, for snapshots without a mirror.' }),
  source: z
    .object({ restore: objectNameField('The SnapshotRestore, with newVolume, that made this volume.') })
    .optional()
    .meta({ description: 'Of a volume that begins with the content of a snapshot. Made by the SnapshotRestore.' }),
  reclaimPolicy: z
    .enum(['Delete', 'Retain'])
    .default('Delete')
    .meta({ description: 'Whether the data of the volume goes with this object, or stays at the agents.' }),
  claim: z.boolean().default(true).meta({
    description: 'Whether the operator makes a PersistentVolume and a PersistentVolumeClaim of it, for pods to use.',
  }),
  claimName: objectNameField('The name of that claim. Without it, the name of this object.').optional(),
  storageClassName: storageClassField('The storage class that both of them name. Without it, the empty one: no class.'),
  mountOptions: mountOptionsField('With what pods get the filesystem mounted.').optional(),
});

export const copySchema = z.object({
  name: z.string().meta({ description: 'The mirror that made the copy, or "origin" for the one created first.' }),
  node: z.string().meta({ description: 'The node that has it.' }),
  pool: z.string().meta({ description: 'The pool that it lives in.' }),
  role: z
    .enum(['Primary', 'Standby', 'Former'])
    .meta({ description: 'Former: it was the primary in an older epoch, and is left as it is.' }),
  state: z
    .enum([
      'Pending',
      'Recovering',
      'Ready',
      'Suspended',
      'Fenced',
      'Failed',
      'Connecting',
      'Resyncing',
      'InSync',
      'Lagging',
      'Outdated',
      'Missing',
      'Unreachable',
    ])
    .meta({
      description:
        'What its agent says about it. Pending: not created yet. Missing: the agent does not know it any more.',
    }),
  epoch: z.int().optional().meta({ description: 'The epoch that the copy is in.', format: 'int64' }),
  onLoss: z
    .enum(['continue', 'suspend'])
    .optional()
    .meta({ description: 'What this copy was last told to do when, as a primary, it loses a standby.' }),
});

export const staleCopySchema = z.object({
  name: z.string().meta({ description: 'Its name while it was a copy of the volume.' }),
  node: z.string().meta({ description: 'The node that has it.' }),
  pool: z.string().meta({ description: 'The pool that it lives in.' }),
  epoch: z.int().meta({ description: 'The epoch in which it was given up.', format: 'int64' }),
});

export const primaryVolumeStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  node: z.string().optional().meta({ description: 'The node of the primary now.' }),
  pool: z.string().optional().meta({ description: 'The pool of the primary now.' }),
  epoch: z.int().optional().meta({ description: 'Grows by one at each change of primary.', format: 'int64' }),
  volume: z.string().optional().meta({ description: 'The name of the volume at the agents.' }),
  sizeBytes: bytesField('The size that the primary has now.').optional(),
  persistentVolumeName: z.string().optional().meta({ description: 'The PersistentVolume made of it.' }),
  claimName: z.string().optional().meta({ description: 'The PersistentVolumeClaim made of it, in this namespace.' }),
  nbd: z.string().optional().meta({ description: 'The unix socket of its exports, on the node of the primary.' }),
  copies: z
    .array(copySchema)
    .optional()
    .meta({
      description: 'Every copy of the volume, on whatever node.',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
    }),
  staleCopies: z.array(staleCopySchema).optional().meta({
    description:
      'Copies that were given up because their nodes were lost. None of them is ever promoted; each is removed when its node is back and no Snapshot is kept there.',
  }),
  arbiter: arbiterRecordSchema.optional().meta({
    description:
      'Who the primary is and which copies may become it: swapped as a whole by the operator and by the agent of the primary, never edited.',
  }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when the volume was created.'),
  conditions: conditionsField,
});

export type PrimaryVolumeSpec = z.output<typeof primaryVolumeSpecSchema>;
export type PrimaryVolumeStatus = z.output<typeof primaryVolumeStatusSchema>;
export type VolumeCopy = z.output<typeof copySchema>;
export type StaleCopy = z.output<typeof staleCopySchema>;
export type CopyState = VolumeCopy['state'];
export type PrimaryVolume = CustomObject<PrimaryVolumeSpec, PrimaryVolumeStatus>;

/** The name of the copy that a volume is created with. */
export const originCopy = 'origin';

/** What every agent allocates in, whatever the block size of the volume. */
export const sizeUnitBytes = 4096;

const wholeBlocksRule: SpecRule<PrimaryVolumeSpec> = {
  field: 'size',
  expected: `a multiple of ${sizeUnitBytes} bytes`,
  got: ({ size }) => (parseQuantity(size) % sizeUnitBytes === 0 ? undefined : String(size)),
};

export const primaryVolumes: CustomResource<PrimaryVolumeSpec, PrimaryVolumeStatus> = {
  group,
  version,
  kind: 'PrimaryVolume',
  plural: 'primaryvolumes',
  singular: 'primaryvolume',
  shortNames: ['pvol'],
  namespaced: true,
  statusSubresource: true,
  description: 'A block volume that lives on one node, and that StandbyMirrors copy to others.',
  spec: primaryVolumeSpecSchema,
  status: primaryVolumeStatusSchema,
  immutable: [
    'size',
    'nodeName',
    'nodeSelector',
    'pool',
    'volumeMode',
    'fsType',
    'blockSize',
    'provisioning',
    'buffer',
    'claimName',
    'storageClassName',
    'source',
  ],
  rules: [
    exactlyOneRule<PrimaryVolumeSpec>('', (spec: PrimaryVolumeSpec) => spec, 'nodeName', 'nodeSelector'),
    wholeBlocksRule,
    sizeNeverShrinksRule<PrimaryVolumeSpec>(),
    bufferStaysRule<PrimaryVolumeSpec>(),
    bufferNeverShrinksRule<PrimaryVolumeSpec>(),
    immutableRule<PrimaryVolumeSpec>('nodeName', true),
    immutableRule<PrimaryVolumeSpec>('nodeSelector', true),
    immutableRule<PrimaryVolumeSpec>('claimName', true),
    immutableRule<PrimaryVolumeSpec>('storageClassName', true),
    immutableRule<PrimaryVolumeSpec>('source', true),
    ...(['pool', 'volumeMode', 'fsType', 'blockSize', 'provisioning'] as const).map((field) =>
      immutableRule<PrimaryVolumeSpec>(field, false),
    ),
  ],
  printerColumns: [
    { name: 'Node', type: 'string', jsonPath: '.status.node', description: 'Where the primary is.' },
    {
      name: 'Standby',
      type: 'string',
      jsonPath: '.status.copies[?(@.role=="Standby")].node',
      description: 'Where its first standby is.',
    },
    { name: 'Size', type: 'string', jsonPath: '.spec.size', description: 'The size of the volume.' },
    { name: 'Claim', type: 'string', jsonPath: '.status.claimName', description: 'What pods use it through.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether it can be used.',
    },
    {
      name: 'Protected',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Protected")].status',
      description: 'Whether a synchronous mirror holds every acknowledged write.',
    },
    {
      name: 'Since',
      type: 'date',
      jsonPath: '.status.conditions[?(@.type=="Protected")].lastTransitionTime',
      description: 'Since when it is, or is not, protected.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why it is ready or not.',
      priority: 1,
    },
    {
      name: 'Epoch',
      type: 'integer',
      jsonPath: '.status.epoch',
      description: 'Changes of primary, plus one.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
