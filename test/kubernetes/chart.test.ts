import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { type Manifest, renderManifests } from '../chart/support/helm.ts';
import { valueSets } from '../chart/support/value-sets.ts';
import { installCrds } from './support/crds.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { manifest } from './support/manifests.ts';

const plane = inject('controlPlane');
const namespace = 'chart-dry-run';

/** The API server looks at every field of every object, and keeps none. */
describe.skipIf('unavailable' in plane)('the API server accepts the chart', () => {
  let kubectl: Kubectl;

  beforeAll(async () => {
    const cluster = sharedControlPlane();
    kubectl = kubectlOf(cluster);
    await installCrds(kubectl, cluster.version);
    await kubectl.run(['create', 'namespace', namespace]);
  });

  afterAll(() => kubectl?.try(['delete', 'namespace', '--wait=false', namespace]));

  test.each(Object.entries(valueSets))('with %s', async (_name, values) => {
    const kubeVersion = sharedControlPlane().version.replace(/\+.*$/, '');
    const objects = (await renderManifests(values, { namespace, kubeVersion })).filter(isOfThisCluster);

    const applied = await kubectl.try(['apply', '--dry-run=server', '-f', '-'], manifest(...objects));

    expect(applied.stderr).toBe('');
    expect(applied.stdout.trim().split('\n').length).toBe(objects.length);
    expect(applied.stdout).not.toContain('configured');
  });

  test('and says so if a field is wrong', async () => {
    const [object] = (await renderManifests({}, { namespace })).filter(({ kind }) => kind === 'Deployment');
    const wrong = { ...object, spec: { ...Reflect.get(object ?? {}, 'spec'), replicas: 'two' } };
    expect((await kubectl.try(['apply', '--dry-run=server', '-f', '-'], manifest(wrong))).status).not.toBe(0);
  });
});

/** The kinds of the Prometheus operator are not installed here. */
function isOfThisCluster({ apiVersion }: Manifest): boolean {
  return !apiVersion.startsWith('monitoring.coreos.com/');
}
