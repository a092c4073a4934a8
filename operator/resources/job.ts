import { z } from 'zod';
import type { KubeObject } from './kube-object.ts';
import type { Resource } from './resource.ts';

/** Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/ */
export interface Job extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

export const jobs: Resource<Job> = {
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  namespaced: true,
  statusSubresource: true,
};

/** The volume of the pod that has the snapshot in it: containers mount it, and nobody declares it. */
export const snapshotVolumeName = 'snapshot';

const containerSchema = z.looseObject({
  volumeMounts: z.array(z.looseObject({ name: z.string() })).optional(),
  volumeDevices: z.array(z.looseObject({ name: z.string() })).optional(),
});

/** What is needed of a pod here; the API server checks all of it when a Job is made. */
const podSpecSchema = z
  .looseObject({
    restartPolicy: z.enum(['Never', 'OnFailure']),
    containers: z.array(containerSchema).min(1),
    initContainers: z.array(containerSchema).optional(),
    volumes: z.array(z.looseObject({ name: z.string() })).optional(),
  })
  .refine(({ volumes = [] }) => volumes.every(({ name }) => name !== snapshotVolumeName), {
    path: ['volumes'],
    message: `expected no volume "${snapshotVolumeName}": it is added with the claim of the snapshot`,
  })
  .refine(
    ({ containers, initContainers = [] }) =>
      [...containers, ...initContainers].some(({ volumeMounts = [], volumeDevices = [] }) =>
        [...volumeMounts, ...volumeDevices].some(({ name }) => name === snapshotVolumeName),
      ),
    {
      path: ['containers'],
      message: `expected one that has the volume "${snapshotVolumeName}" in its volumeMounts or volumeDevices`,
    },
  );

const maxEntries = 16;
const namesField = z
  .record(z.string().max(317), z.string().max(4096))
  .refine((names) => Object.keys(names).length <= maxEntries, `expected at most ${maxEntries}`)
  .optional();

export const jobTemplateSchema = z.object({
  metadata: z
    .object({
      labels: namesField.meta({ description: 'Labels of the Jobs.', maxProperties: maxEntries }),
      annotations: namesField.meta({ description: 'Annotations of the Jobs.', maxProperties: maxEntries }),
    })
    .optional()
    .meta({ description: 'As in a CronJob.' }),
  spec: z.looseObject({ template: z.looseObject({ spec: podSpecSchema }) }).meta({
    description:
      `The spec of a batch/v1 Job. Its containers mount the volume "${snapshotVolumeName}", which is not declared: the ` +
      'operator adds it, with the snapshot in it, read-only.',
    'x-kubernetes-preserve-unknown-fields': true,
  }),
});

export type JobTemplate = z.output<typeof jobTemplateSchema>;
