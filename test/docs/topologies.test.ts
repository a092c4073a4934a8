import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { nodePools } from '../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { validateSpec } from '../../operator/resources/validate-spec.ts';

const examples = path.join(import.meta.dirname, '../../examples');

function problemOf({ kind, spec }: { readonly kind: string; readonly spec: object }) {
  switch (kind) {
    case 'NodePool':
      return validateSpec(nodePools, spec);
    case 'PrimaryVolume':
      return validateSpec(primaryVolumes, spec);
    case 'StandbyMirror':
      return validateSpec(standbyMirrors, spec);
    case 'Snapshot':
      return validateSpec(snapshots, spec);
    case 'SnapshotSchedule':
      return validateSpec(snapshotSchedules, spec);
    default:
      throw new Error(`an example has a ${kind}, which is not checked here`);
  }
}

test.each(['single-server', 'many-to-one', 'one-to-many', 'wide-area', 'offsite-archive'])(
  'the objects of the example %s are valid',
  async (folder) => {
    for (const file of await readdir(path.join(examples, folder))) {
      const text = await readFile(path.join(examples, folder, file), 'utf8');
      for (const document of parseAllDocuments(text)) {
        const object = document.toJS() as { kind: string; spec: object };
        expect(problemOf(object), `${folder}/${file}`).toMatchObject({ ok: true });
      }
    }
  },
);
