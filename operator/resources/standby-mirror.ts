import { z } from 'zod';
import { mirrorStateSchema } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import { conditionsField } from './conditions.ts';
import {
  acceptedField,
  bufferField,
  bytesField,
  durationField,
  nodeNameField,
  nodeSelectorField,
  objectNameField,
  poolField,
  quantityField,
} from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource, SpecRule } from './resource.ts';
import { bufferNeverShrinksRule, bufferStaysRule, exactlyOneRule, immutableRule } from './rules.ts';

const minJournalBytes = 1024 * 1024;

const failoverSchema = z.object({
  policy: z.enum(['Manual', 'Automatic']).default('Manual').meta({
    description: 'Automatic: the standby becomes the primary when the primary is lost. Synchronous mirrors only.',
  }),
  after: durationField('How long the primary must be lost before that.').default('30s'),
  duringBackup: z.enum(['Abort', 'Finish', 'Continue']).default('Continue').meta({
    description:
      'What becomes of backups that read this standby when it is to be the primary. Abort: they are ended. Finish: they are waited for. Continue: they go on.',
  }),
  finishWithin: durationField(
    'With Finish, how long backups are waited for while the primary is lost, beyond `after`; then they go on beside the new primary.',
  ).default('10m'),
  evictPods: z.boolean().default(false).meta({
    description:
      'Delete the pods that use the volume on the node of the lost primary, once that is fenced, so that they are started where the new one is.',
  }),
});

const rebuildSchema = z.object({
  policy: z.enum(['Manual', 'Automatic']).default('Automatic').meta({
    description:
      'Automatic: a standby whose node is lost is given up, and built again on another node of the nodeSelector. Manual: only when the annotation understudy.dev/rebuild names its node. One with a nodeName is never moved.',
  }),
  after: durationField('How long the standby must be lost before that.').default('30m'),
});

export const standbyMirrorSpecSchema = z.object({
  primaryVolumeRef: z
    .object({ name: objectNameField('The name of the PrimaryVolume, in the same namespace.') })
    .meta({ description: 'The volume that is mirrored.' }),
  mirrorRef: z
    .object({ name: objectNameField('The name of the StandbyMirror, in the same namespace, of the same volume.') })
    .optional()
    .meta({
      description:
        'The mirror behind whose standby this one is (a cascade): that standby, not the primary, feeds it. Asynchronous mirrors only, and one behind the other at most.',
    }),
  nodeName: nodeNameField('The node of the standby; never the node of another copy of the volume.').optional(),
  nodeSelector: nodeSelectorField(
    'Labels of the nodes on which the standby may be created: of those that have the pool and no other copy, the one with the least in it is taken. Instead of nodeName.',
  ).optional(),
  pool: poolField('The pool, on that node, in which the standby lives.').default('main'),
  mode: z.enum(['Synchronous', 'Asynchronous']).default('Synchronous').meta({
    description:
      'Synchronous: a write is acknowledged when the standby holds it too. Asynchronous: the standby follows, in order.',
  }),
  journal: z
    .object({
      pool: poolField(
        'The pool, on the node of the primary, that it is in; that of the primary unless told.',
      ).optional(),
      capacity: quantityField('How much it holds, reserved at once; at least 1Mi.').refine(
        (capacity) => parseQuantity(capacity) >= minJournalBytes,
        'expected at least 1Mi',
      ),
    })
    .optional()
    .meta({
      description:
        'Of an asynchronous mirror: where the primary keeps writes that are still to be sent and do not fit in memory. When it is full, the standby is resynchronised. Without it, 256Mi in the pool of the primary.',
    }),
  compression: z.enum(['None', 'Zstd']).optional().meta({
    description: 'Of an asynchronous mirror: whether its stream is compressed. None unless told.',
  }),
  resyncRateLimit: quantityField(
    'Bytes a second that a resync or verification of this mirror may read. Taken away again, the last one stays in force until something else about the links of the volume changes.',
  ).optional(),
  onLoss: z.enum(['Suspend', 'Continue']).optional().meta({
    description:
      'What the primary does when it loses this standby. Suspend: writes wait until it is back. Continue: the primary goes on alone and records what the standby misses. Without it, Continue where the agent of the primary has an arbiter that decides, else Suspend.',
  }),
  buffer: bufferField.optional().meta({ description: 'The snapshot buffer of the standby. Without it, no snapshots.' }),
  failover: failoverSchema.prefault({}).meta({ description: 'Whether and when the standby takes over by itself.' }),
  rebuild: rebuildSchema
    .prefault({})
    .meta({ description: 'What becomes of the standby when its node is lost for good.' }),
  claim: z.boolean().default(true).meta({
    description:
      'Whether the operator makes a PersistentVolumeClaim <name>-latest, through which pods read the newest snapshot. It needs a buffer.',
  }),
});

export const standbyMirrorStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  node: z.string().optional().meta({ description: 'The node of the standby.' }),
  pool: z.string().optional().meta({ description: 'The pool of the standby.' }),
  volume: z.string().optional().meta({ description: 'The name of the volume at the agents.' }),
  persistentVolumeName: z.string().optional().meta({ description: 'The PersistentVolume of its newest snapshot.' }),
  claimName: z.string().optional().meta({ description: 'The PersistentVolumeClaim of its newest snapshot.' }),
  state: z
    .enum(['Pending', ...mirrorStateSchema.options, 'Promoted', 'Unknown'])
    .optional()
    .meta({ description: 'What the primary says about the mirror. Promoted: its copy is the primary now.' }),
  progress: z
    .object({
      copiedBytes: bytesField('Bytes that the resync has copied.'),
      totalBytes: bytesField('Bytes that it has to copy.'),
      percent: z.int().meta({ description: 'The one of the other.' }),
    })
    .optional()
    .meta({ description: 'How far the resync under way is.' }),
  dirtyBytes: bytesField('Bytes that the standby is known to miss.').optional(),
  lagBytes: bytesField('Bytes on their way to the standby.').optional(),
  lagSeconds: z
    .number()
    .optional()
    .meta({ description: 'Of an asynchronous mirror: how far in the past the image on the standby is, in seconds.' }),
  buffer: z
    .object({
      usedBytes: bytesField('Bytes of the buffer that are used.'),
      capacityBytes: bytesField('Bytes that it may use.'),
      usedPercent: z.int().meta({ description: 'The one of the other.' }),
      snapshots: z.int().meta({ description: 'Snapshots that it keeps.' }),
      maxSnapshots: z.int().meta({ description: 'Snapshots that it may keep.' }),
    })
    .optional()
    .meta({ description: 'How full the snapshot buffer of the standby is.' }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when the standby was placed.'),
  conditions: conditionsField,
});

export type StandbyMirrorSpec = z.output<typeof standbyMirrorSpecSchema>;
export type StandbyMirrorStatus = z.output<typeof standbyMirrorStatusSchema>;
export type StandbyMirror = CustomObject<StandbyMirrorSpec, StandbyMirrorStatus>;

const automaticNeedsSynchronousRule: SpecRule<StandbyMirrorSpec> = {
  field: 'failover.policy',
  expected: 'Manual while mode is Asynchronous: a primary that acknowledges alone cannot be fenced',
  cel: "self.mode == 'Synchronous' || self.failover.policy != 'Automatic'",
  got: ({ mode, failover }) => (mode === 'Synchronous' || failover.policy !== 'Automatic' ? undefined : '"Automatic"'),
};

function asynchronousOnlyRule(
  field: 'journal' | 'compression' | 'mirrorRef',
  why: string,
): SpecRule<StandbyMirrorSpec> {
  return {
    field,
    expected: `nothing while mode is Synchronous: ${why}`,
    cel: `self.mode == 'Asynchronous' || !has(self.${field})`,
    got: (spec) =>
      spec.mode === 'Asynchronous' || spec[field] === undefined ? undefined : JSON.stringify(spec[field]),
  };
}

export const standbyMirrors: CustomResource<StandbyMirrorSpec, StandbyMirrorStatus> = {
  group,
  version,
  kind: 'StandbyMirror',
  plural: 'standbymirrors',
  singular: 'standbymirror',
  shortNames: ['smir'],
  namespaced: true,
  statusSubresource: true,
  description:
    'A second copy of a PrimaryVolume on another node, written at the same moment, from which backups are made.',
  spec: standbyMirrorSpecSchema,
  status: standbyMirrorStatusSchema,
  immutable: ['primaryVolumeRef', 'mirrorRef', 'nodeName', 'nodeSelector', 'pool', 'buffer'],
  rules: [
    exactlyOneRule<StandbyMirrorSpec>('', (spec: StandbyMirrorSpec) => spec, 'nodeName', 'nodeSelector'),
    automaticNeedsSynchronousRule,
    asynchronousOnlyRule('journal', 'there is no stream that falls behind'),
    asynchronousOnlyRule('compression', 'there is no stream to compress'),
    asynchronousOnlyRule('mirrorRef', 'what a standby passes on, the primary does not wait for'),
    bufferStaysRule<StandbyMirrorSpec>(),
    bufferNeverShrinksRule<StandbyMirrorSpec>(),
    immutableRule<StandbyMirrorSpec>('primaryVolumeRef', false),
    immutableRule<StandbyMirrorSpec>('mirrorRef', true),
    immutableRule<StandbyMirrorSpec>('nodeName', true),
    immutableRule<StandbyMirrorSpec>('nodeSelector', true),
    immutableRule<StandbyMirrorSpec>('pool', false),
  ],
  printerColumns: [
    { name: 'Volume', type: 'string', jsonPath: '.spec.primaryVolumeRef.name', description: 'What is mirrored.' },
    { name: 'Node', type: 'string', jsonPath: '.status.node', description: 'Where the standby is.' },
    { name: 'State', type: 'string', jsonPath: '.status.state', description: 'What the primary says about it.' },
    {
      name: 'InSync',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="InSync")].status',
      description: 'Whether it holds every acknowledged write.',
    },
    {
      name: 'Since',
      type: 'date',
      jsonPath: '.status.conditions[?(@.type=="InSync")].lastTransitionTime',
      description: 'Since when it is, or is not, in sync.',
    },
    { name: 'Progress%', type: 'integer', jsonPath: '.status.progress.percent', description: 'How far the resync is.' },
    {
      name: 'Buffer%',
      type: 'integer',
      jsonPath: '.status.buffer.usedPercent',
      description: 'How full its buffer is.',
    },
    {
      name: 'Snapshots',
      type: 'integer',
      jsonPath: '.status.buffer.snapshots',
      description: 'Snapshots that it keeps.',
      priority: 1,
    },
    {
      name: 'Missing',
      type: 'integer',
      jsonPath: '.status.dirtyBytes',
      description: 'Bytes that the standby is known to miss.',
      priority: 1,
    },
    {
      name: 'Lag',
      type: 'integer',
      jsonPath: '.status.lagBytes',
      description: 'Bytes on their way to the standby.',
      priority: 1,
    },
    {
      name: 'Claim',
      type: 'string',
      jsonPath: '.status.claimName',
      description: 'What pods read its newest snapshot through.',
      priority: 1,
    },
    { name: 'Mode', type: 'string', jsonPath: '.spec.mode', description: 'Synchronous or asynchronous.', priority: 1 },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
