import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { projectDirectory } from './control-plane.ts';
import { hasCelQuantities, installCrds } from './support/crds.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { manifest } from './support/manifests.ts';

const plane = inject('controlPlane');
/** The CronJobs of the examples are of batch/v1, which came with 1.21; an API server between that and 1.29 has no quantities in CEL. */
const old = 'unavailable' in plane || hasCelQuantities(plane.version) ? undefined : plane.version;
const namespace = 'examples-dry-run';
const examples = join(projectDirectory, 'examples');
const files = (await readdir(examples, { recursive: true })).filter((name) => /\.ya?ml$/.test(name)).sort();

interface Example {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** The API server looks at every field of every object, warns of none, and keeps none. */
describe.skipIf('unavailable' in plane || old)(
  `the API server accepts the examples${old ? ` (skipped: ${old} is too old for them)` : ''}`,
  () => {
    let kubectl: Kubectl;

    beforeAll(async () => {
      const cluster = sharedControlPlane();
      kubectl = kubectlOf(cluster);
      await installCrds(kubectl, cluster.version);
      await kubectl.run(['create', 'namespace', namespace]);
    });

    afterAll(() => kubectl?.try(['delete', 'namespace', '--wait=false', namespace]));

    test.each(files)('%s', async (file) => {
      const documents = parseAllDocuments(await readFile(join(examples, file), 'utf8'));
      const objects = documents.map((document) => document.toJS() as Example | null).filter(isManifest);
      if (objects.length === 0) return;
      const placed = objects.map((object) => ({ ...object, metadata: { ...object.metadata, namespace: undefined } }));

      const args = ['apply', '-n', namespace, '--dry-run=server', '--validate=strict', '-f', '-'];
      const applied = await kubectl.try(args, manifest(...placed));

      expect(applied).toMatchObject({ status: 0, stderr: '' });
      expect(applied.stdout.trim().split('\n')).toHaveLength(objects.length);
    });
  },
);

/** Values of a chart and configuration files are no manifests. */
function isManifest(example: Example | null): example is Example {
  return example?.apiVersion !== undefined && example.kind !== undefined;
}
