import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { acceptedField, matchLabelsField } from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource, SpecRule } from './resource.ts';
import { exactlyOneRule, immutableRule } from './rules.ts';
import { snapshotSourceSchema } from './snapshot.ts';
import { snapshotLabelsField } from './snapshot-schedule.ts';

/** Bounded, because acknowledgements are held at all of them at once. */
export const maxGroupMembers = 16;

const templateSchema = z.object({
  labels: snapshotLabelsField,
  claim: z.boolean().default(true).meta({ description: 'Whether each Snapshot gets a PersistentVolume and a claim.' }),
});

export const snapshotGroupSpecSchema = z.object({
  sources: z
    .array(snapshotSourceSchema)
    .min(1)
    .max(maxGroupMembers)
    .optional()
    .meta({ description: 'What snapshots are taken of, in the same namespace, each mirror and volume once.' }),
  mirrorSelector: z
    .object({ matchLabels: matchLabelsField('All of these labels.') })
    .optional()
    .meta({
      description:
        'Instead of a list: the StandbyMirrors of this namespace that have these labels when it is first seen.',
    }),
  template: templateSchema.prefault({}).meta({ description: 'What the Snapshots are to be.' }),
});

export const groupMemberSchema = z.object({
  snapshot: z.string().meta({ description: 'The name of its Snapshot.' }),
  mirror: z.string().optional().meta({ description: 'The StandbyMirror that it is of.' }),
  volume: z.string().optional().meta({ description: 'The PrimaryVolume that it is of.' }),
});

export const snapshotGroupStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  members: z
    .array(groupMemberSchema)
    .optional()
    .meta({ description: 'The Snapshots of the group; fixed when it is first seen.' }),
  count: z.int().optional().meta({ description: 'How many these are.' }),
  attempts: z.int().optional().meta({ description: 'Attempts so far; after five it is given up.' }),
  attempt: z.string().optional().meta({ description: 'The name of the last attempt at the agents.' }),
  startedAt: z.string().optional().meta({
    description: 'When the agents were asked to hold acknowledgements in it. Written before they are.',
    format: 'date-time',
  }),
  endedAt: z.string().optional().meta({
    description: 'When they had been let go again, all barriers being sent or not.',
    format: 'date-time',
  }),
  heldMilliseconds: z.int().optional().meta({
    description: 'For how long writes were not acknowledged in it, at the volume where that was longest.',
    format: 'int64',
  }),
  problem: z.string().optional().meta({ description: 'Why the last attempt was void: its Snapshots are deleted.' }),
  takenAt: z
    .string()
    .optional()
    .meta({ description: 'The moment of the last of its barriers, once all are taken.', format: 'date-time' }),
  accepted: acceptedField('Fields of the spec that cannot change, as they were when it was first seen.'),
  conditions: conditionsField,
});

export type SnapshotGroupSpec = z.output<typeof snapshotGroupSpecSchema>;
export type SnapshotGroupStatus = z.output<typeof snapshotGroupStatusSchema>;
export type SnapshotGroup = CustomObject<SnapshotGroupSpec, SnapshotGroupStatus>;
export type GroupMember = z.output<typeof groupMemberSchema>;

const eachSourceIsOne: SpecRule<SnapshotGroupSpec> = {
  field: 'sources',
  expected: 'exactly one of mirror and volume in each',
  cel: '!has(self.sources) || self.sources.all(s, has(s.mirror) != has(s.volume))',
  got: ({ sources = [] }) => {
    const wrong = sources.findIndex(({ mirror, volume }) => (mirror === undefined) === (volume === undefined));
    if (wrong < 0) return undefined;
    return `${sources[wrong]?.mirror === undefined ? 'neither' : 'both'} in sources[${wrong}]`;
  },
};

/** A Snapshot is named after its source. */
const eachSourceOnce: SpecRule<SnapshotGroupSpec> = {
  field: 'sources',
  expected: 'each name once',
  got: ({ sources = [] }) => {
    const names = sources.map(({ mirror, volume }) => mirror ?? volume);
    return names.find((name, index) => names.indexOf(name) !== index);
  },
};

export const snapshotGroups: CustomResource<SnapshotGroupSpec, SnapshotGroupStatus> = {
  group,
  version,
  kind: 'SnapshotGroup',
  plural: 'snapshotgroups',
  singular: 'snapshotgroup',
  shortNames: ['ugroup'],
  namespaced: true,
  statusSubresource: true,
  description:
    'Snapshots of several volumes at one moment: no write after it is in any of them, and none before it is missing, in the order in which the application waited for them. All of them, or none.',
  spec: snapshotGroupSpecSchema,
  status: snapshotGroupStatusSchema,
  immutable: ['sources', 'mirrorSelector', 'template'],
  rules: [
    exactlyOneRule<SnapshotGroupSpec>('', (spec) => spec, 'sources', 'mirrorSelector'),
    eachSourceIsOne,
    eachSourceOnce,
    immutableRule<SnapshotGroupSpec>('sources', true),
    immutableRule<SnapshotGroupSpec>('mirrorSelector', true),
    immutableRule<SnapshotGroupSpec>('template', false),
  ],
  printerColumns: [
    { name: 'Members', type: 'integer', jsonPath: '.status.count', description: 'How many snapshots it has.' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether all of them can be read.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why it is ready or not.',
    },
    { name: 'Taken', type: 'date', jsonPath: '.status.takenAt', description: 'Time since its barriers.' },
    {
      name: 'Held ms',
      type: 'integer',
      jsonPath: '.status.heldMilliseconds',
      description: 'For how long writes were not acknowledged.',
    },
    {
      name: 'Attempts',
      type: 'integer',
      jsonPath: '.status.attempts',
      description: 'How often it was tried.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
