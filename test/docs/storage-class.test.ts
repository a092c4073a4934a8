import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { knownParameters } from '../../operator/planning/claim-parameters.ts';
import { planClaim } from '../../operator/planning/plan-claim.ts';

const root = path.join(import.meta.dirname, '../..');
const read = (file: string) => readFile(path.join(root, file), 'utf8');

test('docs/storage-class.md lists the parameters that are known', async () => {
  const [, behind = ''] = (await read('docs/storage-class.md')).split('\n## Parameters\n');
  const [section = ''] = behind.split('\n## ');
  expect([...section.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name)).toEqual(knownParameters);
});

test('the class of the example can be had', async () => {
  const { parameters } = parse(await read('examples/storage-class/storage-class.yaml')) as {
    parameters: Record<string, string>;
  };
  const plan = planClaim(parameters, {
    volumeName: 'data',
    requestedBytes: 2 ** 30,
    volumeMode: 'Filesystem',
    accessModes: ['ReadWriteOnce'],
    reclaimPolicy: 'Delete',
    mountOptions: [],
  });
  expect(plan).toMatchObject({ ok: true, mirror: { buffer: { capacity: 2 ** 28 } } });
});

test('the example of a StatefulSet names the class and the mirror that there are', async () => {
  const [, , set] = parseAllDocuments(await read('examples/statefulset-postgresql/postgresql.yaml')).map(
    (document) => document.toJS() as { spec?: { volumeClaimTemplates?: { spec: { storageClassName: string } }[] } },
  );
  const { metadata } = parse(await read('examples/storage-class/storage-class.yaml')) as { metadata: { name: string } };
  expect(set?.spec?.volumeClaimTemplates?.[0]?.spec.storageClassName).toBe(metadata.name);
  const snapshot = parse(await read('examples/statefulset-postgresql/snapshot.yaml')) as object;
  expect(snapshot).toMatchObject({ spec: { source: { mirror: 'data-postgresql-0-standby' } } });
});
