import { expect, test } from 'vitest';
import { applyManifest } from '../../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { poolYaml, volumeYaml } from '../../support/manifests.ts';

const key = { namespace: 'default', name: 'data' };
const yaml = volumeYaml('data', { nodeName: 'node-a' }, '');

test('creates, then leaves alone, then merges', async () => {
  const api = new InMemoryKubeApi();
  const outcomes = async (text: string) => (await applyManifest(api, text)).map(({ outcome }) => outcome);
  expect(await outcomes(`${poolYaml('node-a', 'main')}\n---\n${yaml}\n---\n`)).toEqual(['created', 'created']);
  await api.patch(primaryVolumes, key, { metadata: { labels: { mine: 'yes' } }, spec: { reclaimPolicy: 'Retain' } });
  expect(await outcomes(yaml)).toEqual(['unchanged']);
  expect(await outcomes(yaml.replace('1Gi', '2Gi'))).toEqual(['configured']);
  expect(await api.get(primaryVolumes, key)).toMatchObject({
    metadata: { labels: { mine: 'yes' } },
    spec: { size: '2Gi', reclaimPolicy: 'Retain' },
  });
});

test('namespaced objects go where the manifest says, else where the caller says', async () => {
  const api = new InMemoryKubeApi({ namespaces: ['default', 'shop', 'bank'] });
  await applyManifest(api, yaml, { namespace: 'shop' });
  await applyManifest(api, yaml.replace('{ name: data }', '{ name: data, namespace: bank }'), { namespace: 'shop' });
  expect((await api.list(primaryVolumes)).items.map(({ metadata }) => metadata.namespace)).toEqual(['shop', 'bank']);
});

test.each([
  ['no: [yaml', 'document 1 is not valid YAML'],
  [`${yaml}\n---\nsize: 1`, 'document 2 is no object'],
  ['apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }', 'unknown kind: apps/v1 Deployment'],
  [yaml.replace('1Gi', '-1'), 'spec.size'],
])('refuses %j and says what is wrong', async (text, message) => {
  await expect(applyManifest(new InMemoryKubeApi(), text)).rejects.toMatchObject({
    code: 'Invalid',
    message: expect.stringContaining(message),
  });
});

test('does not merge into what is being deleted', async () => {
  const api = new InMemoryKubeApi();
  await applyManifest(api, yaml);
  await api.patch(primaryVolumes, key, { metadata: { finalizers: ['test/hold'] } });
  await api.delete(primaryVolumes, key);
  await expect(applyManifest(api, yaml)).rejects.toMatchObject({ code: 'Conflict' });
});
