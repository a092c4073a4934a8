import { z } from 'zod';
import { parseDurationMs } from './duration.ts';
import { durationField, matchLabelsField } from './fields.ts';

/** Commands around the barrier of a snapshot, in the pods of the application: see docs/consistency.md. */

const longestDeadlineMs = 10 * 60_000;
/** Bounded, because the API server estimates what validation may cost. */
const maxHooks = 16;

const hookFields = {
  podSelector: z
    .object({
      matchLabels: matchLabelsField('All of these labels.'),
    })
    .meta({ description: 'In which running pods of this namespace.' }),
  container: z
    .string()
    .max(63)
    .optional()
    .meta({ description: 'In which of their containers. Needed if they have several.' }),
  command: z
    .array(z.string().max(16_384))
    .min(1)
    .max(64)
    .meta({ description: 'The program and its arguments. No shell: name one if it is wanted.' }),
  timeout: durationField('For how long at most.').default('30s'),
  onError: z.enum(['Fail', 'Continue']).default('Fail'),
};

const preHookSchema = z.object({
  ...hookFields,
  onError: hookFields.onError.meta({
    description:
      'Fail: no snapshot is taken this time. Continue: it is taken, and is not of consistency "application".',
  }),
  hold: z
    .object({
      ready: z
        .string()
        .min(1)
        .max(256)
        .optional()
        .meta({ description: 'The line. Without it, the first line, whatever it says.' }),
    })
    .optional()
    .meta({
      description:
        'The command goes on until the barrier is passed. It says on a line of its standard output when the application ' +
        'is held; it has to end when it gets a line, or the end, on its standard input.',
    }),
});

const postHookSchema = z.object({
  ...hookFields,
  onError: hookFields.onError.meta({
    description:
      'Fail: it is tried three times. Continue: once. The snapshot stays what it is, and its status says so.',
  }),
});

export const snapshotHooksSchema = z.object({
  pre: z
    .array(preHookSchema)
    .max(maxHooks)
    .default([])
    .meta({ description: 'Before the barrier, one after the other.' }),
  post: z.array(postHookSchema).max(maxHooks).default([]).meta({
    description: 'After the barrier, and whenever a pre hook may have been started, whatever happened since.',
  }),
  deadline: durationField('For how long at most applications are held, up to ten minutes.')
    .refine((text) => {
      const deadlineMs = parseDurationMs(text);
      return deadlineMs > 0 && deadlineMs <= longestDeadlineMs;
    }, 'expected more than nothing and at most 10m')
    .default('60s'),
});

export const hooksStatusSchema = z.object({
  attempt: z
    .string()
    .meta({ description: 'The name of the last attempt, which the snapshot keeps if it was made in it.' }),
  attempts: z.int().meta({ description: 'Attempts so far; after five it is given up.' }),
  started: z
    .array(z.string())
    .meta({ description: 'The pre hooks that may have been started in it: where, and what. Written before they are.' }),
  startedAt: z.string().meta({ description: 'When it began.', format: 'date-time' }),
  endedAt: z.string().optional().meta({
    description: 'When its post hooks had been run. Without it, applications may be held.',
    format: 'date-time',
  }),
  heldMilliseconds: z.int().optional().meta({
    description: 'From the first pre hook to the end of the last post hook: how long applications were held.',
    format: 'int64',
  }),
  problems: z.array(z.string()).optional().meta({ description: 'What went wrong in it.' }),
});

export type SnapshotHooks = z.output<typeof snapshotHooksSchema>;
export type PreHook = z.output<typeof preHookSchema>;
export type PostHook = z.output<typeof postHookSchema>;
export type HooksStatus = z.output<typeof hooksStatusSchema>;
