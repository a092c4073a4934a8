import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { isTimeZone, parseCron } from './cron.ts';
import { parseDurationMs } from './duration.ts';
import { durationField } from './fields.ts';
import { group, version } from './group.ts';
import { jobTemplateSchema } from './job.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource, SpecRule } from './resource.ts';
import { exactlyOneRule } from './rules.ts';
import { snapshotConsistencySchema, snapshotSourceSchema } from './snapshot.ts';

/** Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set */
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const maxLabels = 16;

/** Labels that are put on Snapshots which are made. */
export const snapshotLabelsField = z
  .record(z.string().max(317), z.string().regex(labelValue, 'expected the value of a label'))
  .refine((labels) => Object.keys(labels).length <= maxLabels, `expected at most ${maxLabels} labels`)
  .refine((labels) => !Object.keys(labels).some((name) => name.startsWith(`${group}/`)), `expected no ${group}/ labels`)
  .optional()
  .meta({ description: 'Labels of the Snapshots, besides those of the operator.', maxProperties: maxLabels });

const templateSchema = z.object({
  labels: snapshotLabelsField,
  source: snapshotSourceSchema.meta({ description: 'What the snapshots are taken of.' }),
  consistency: snapshotConsistencySchema
    .prefault({})
    .meta({ description: 'What to wait for and to hold still, as in a Snapshot.' }),
  claim: z.boolean().default(false).meta({
    description:
      'Whether each Snapshot gets a PersistentVolume and a claim. The claim <mirror>-latest reads the newest one without.',
  }),
});

function countField(description: string) {
  return z.int().min(1).max(512).optional().meta({ description });
}

const retentionSchema = z.object({
  keepLast: countField('The newest ones, that many.'),
  hourly: countField('The newest one of each hour that has one, for that many hours.'),
  daily: countField('The newest one of each day that has one, for that many days, in the time zone of the schedule.'),
  weekly: countField('The newest one of each week (from Monday) that has one, for that many weeks.'),
});

const jobSchema = z.object({
  template: jobTemplateSchema.meta({ description: 'What the Jobs are to be, as in a CronJob.' }),
  onSuccess: z.enum(['Keep', 'Release']).default('Keep').meta({
    description:
      'What becomes of a snapshot whose Job has succeeded. Keep: it stays while the retention asks for it. Release: it is removed. One whose Job has failed stays.',
  }),
});

export const snapshotScheduleSpecSchema = z.object({
  cron: z
    .string()
    .max(100)
    .refine(
      (pattern) => parseCron(pattern, 'UTC') !== undefined,
      'expected a cron pattern of five fields, such as "*/15 * * * *"',
    )
    .meta({
      description: 'When: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly.',
    }),
  timeZone: z
    .string()
    .max(64)
    .default('UTC')
    .refine(isTimeZone, 'expected a time zone such as Europe/Berlin')
    .meta({ description: 'The time zone of cron, and of the days and weeks of the retention.' }),
  jitter: durationField(
    'Each schedule is late by a time of its own below this, always the same, so that not all of them come at once.',
  ).default('0s'),
  startingDeadline: durationField(
    'How late, after a downtime or because of a mirror that is not in sync, a snapshot may still be taken: at least 10s. Without it, any time.',
  ).optional(),
  concurrencyPolicy: z.enum(['Forbid', 'Replace']).default('Forbid').meta({
    description:
      'What to do if the one before has not been taken yet. Forbid: leave out this time. Replace: give up the one before.',
  }),
  suspend: z
    .boolean()
    .default(false)
    .meta({ description: 'No snapshots are taken, and none removed, while it is true.' }),
  template: templateSchema.meta({ description: 'What the Snapshots are to be.' }),
  job: jobSchema.optional().meta({
    description:
      'A Job for each snapshot, such as a backup, made when it can be read. While one runs no other is made. It needs a right: operator.jobs of the chart.',
  }),
  retention: retentionSchema.prefault({}).meta({
    description:
      'Which ones are kept: each that a rule asks for. Without any rule, as many as the buffer has places for, less one.',
  }),
});

const jobOutcomeSchema = z.object({
  name: z.string().meta({ description: 'The Job.' }),
  outcome: z
    .enum(['Waiting', 'Running', 'Succeeded', 'Failed', 'Skipped'])
    .meta({ description: 'What became of it. Skipped: it was not made.' }),
  message: z.string().optional().meta({ description: 'Why it failed, or was not made.' }),
});

const outcomeSchema = z.object({
  scheduledAt: z.string().meta({ description: 'The time of the schedule.', format: 'date-time' }),
  snapshot: z.string().optional().meta({ description: 'The Snapshot made for it.' }),
  outcome: z
    .enum(['Taking', 'Taken', 'Skipped', 'GivenUp', 'Lost'])
    .meta({ description: 'What became of it. Lost: it was taken, and cannot be read any more.' }),
  takenAt: z.string().optional().meta({ description: 'The moment of its barrier.', format: 'date-time' }),
  message: z.string().optional().meta({ description: 'Why it was not taken.' }),
  job: jobOutcomeSchema.optional().meta({ description: 'The Job made for the snapshot.' }),
});

export const snapshotScheduleStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  nextScheduleTime: z
    .string()
    .optional()
    .meta({ description: 'When the next one is asked for, jitter included.', format: 'date-time' }),
  lastScheduleTime: z
    .string()
    .optional()
    .meta({ description: 'The last time for which a Snapshot was made.', format: 'date-time' }),
  lastSuccessfulTime: z
    .string()
    .optional()
    .meta({ description: 'The barrier of the newest snapshot that can be read.', format: 'date-time' }),
  handledUntil: z
    .string()
    .optional()
    .meta({ description: 'Every time up to this one has been dealt with: taken, or left out.', format: 'date-time' }),
  handledPattern: z.string().optional().meta({ description: 'The cron and time zone that this is about.' }),
  taking: z.string().optional().meta({ description: 'The Snapshot that is being taken.' }),
  kept: z.int().optional().meta({ description: 'Snapshots of this schedule that can be read.' }),
  places: z
    .int()
    .optional()
    .meta({ description: 'How many it may keep, as the buffer is shared with other snapshots.' }),
  history: z.array(outcomeSchema).optional().meta({ description: 'The last times, the newest first.' }),
  conditions: conditionsField,
});

export type SnapshotScheduleSpec = z.output<typeof snapshotScheduleSpecSchema>;
export type SnapshotScheduleStatus = z.output<typeof snapshotScheduleStatusSchema>;
export type ScheduleOutcome = z.output<typeof outcomeSchema>;
export type JobOutcome = z.output<typeof jobOutcomeSchema>;
export type RetentionRules = z.output<typeof retentionSchema>;
export type SnapshotSchedule = CustomObject<SnapshotScheduleSpec, SnapshotScheduleStatus>;

/** Below that, a busy operator would leave out snapshots. */
const shortestDeadlineMs = 10_000;

const deadlineRule: SpecRule<SnapshotScheduleSpec> = {
  field: 'startingDeadline',
  expected: 'at least 10s',
  got: ({ startingDeadline }) =>
    startingDeadline === undefined || parseDurationMs(startingDeadline) >= shortestDeadlineMs
      ? undefined
      : startingDeadline,
};

export const snapshotSchedules: CustomResource<SnapshotScheduleSpec, SnapshotScheduleStatus> = {
  group,
  version,
  kind: 'SnapshotSchedule',
  plural: 'snapshotschedules',
  singular: 'snapshotschedule',
  shortNames: ['usched'],
  namespaced: true,
  statusSubresource: true,
  description: 'Takes Snapshots of a mirror or a volume at the times of a cron pattern, and removes the old ones.',
  spec: snapshotScheduleSpecSchema,
  status: snapshotScheduleStatusSchema,
  immutable: [],
  rules: [
    exactlyOneRule<SnapshotScheduleSpec>('template.source', ({ template }) => template.source, 'mirror', 'volume'),
    deadlineRule,
  ],
  printerColumns: [
    { name: 'Cron', type: 'string', jsonPath: '.spec.cron', description: 'When.' },
    { name: 'Mirror', type: 'string', jsonPath: '.spec.template.source.mirror', description: 'The mirror.' },
    {
      name: 'Volume',
      type: 'string',
      jsonPath: '.spec.template.source.volume',
      description: 'The volume, without a mirror.',
      priority: 1,
    },
    { name: 'Suspend', type: 'string', jsonPath: '.spec.suspend', description: 'Whether it rests.' },
    { name: 'Last', type: 'date', jsonPath: '.status.lastSuccessfulTime', description: 'Time since the newest one.' },
    { name: 'Next', type: 'string', jsonPath: '.status.nextScheduleTime', description: 'When the next one comes.' },
    { name: 'Kept', type: 'integer', jsonPath: '.status.kept', description: 'How many can be read.' },
    {
      name: 'UpToDate',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="UpToDate")].status',
      description: 'Whether the last one was taken.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Whether it is in order.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};
