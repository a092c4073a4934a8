import type { z } from 'zod';
import { events, namespaces, nodes, pods } from './core-kinds.ts';
import { jobs } from './job.ts';
import { nodePools } from './node-pool.ts';
import { primaryVolumes } from './primary-volume.ts';
import type { CustomResource, Resource } from './resource.ts';
import { apiVersionOf } from './resource.ts';
import { snapshots } from './snapshot.ts';
import { snapshotGroups } from './snapshot-group.ts';
import { snapshotRestores } from './snapshot-restore.ts';
import { snapshotSchedules } from './snapshot-schedule.ts';
import { standbyMirrors } from './standby-mirror.ts';
import { persistentVolumeClaims, persistentVolumes, storageClasses } from './storage-kinds.ts';

/** A kind of ours without the types of its fields, for what treats all kinds alike. */
export type AnyCustomResource = Omit<CustomResource, 'spec' | 'rules' | 'immutable'> & {
  readonly spec: z.ZodObject;
  readonly rules: readonly {
    readonly field: string;
    readonly expected: string;
    readonly cel?: string;
    // Method syntax: a rule of a known kind may stand where one of any kind is expected, once its spec was checked.
    got(spec: unknown, old: unknown): string | undefined;
  }[];
  readonly immutable: readonly string[];
};

export const customResources: readonly AnyCustomResource[] = [
  nodePools,
  primaryVolumes,
  standbyMirrors,
  snapshots,
  snapshotGroups,
  snapshotSchedules,
  snapshotRestores,
];

const coreResources: readonly Resource[] = [
  namespaces,
  nodes,
  pods,
  events,
  jobs,
  persistentVolumes,
  persistentVolumeClaims,
  storageClasses,
];

/** The resource of a manifest's apiVersion and kind, if it is one that is known here. */
export function findResource(apiVersion: string, kind: string): Resource | undefined {
  return [...customResources, ...coreResources].find(
    (resource) => resource.kind === kind && apiVersionOf(resource) === apiVersion,
  );
}

export function findCustomResource(resource: Pick<Resource, 'group' | 'kind'>): AnyCustomResource | undefined {
  return customResources.find((custom) => custom.kind === resource.kind && custom.group === resource.group);
}
