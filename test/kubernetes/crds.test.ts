import { basename } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { z } from 'zod';
import { customResources } from '../../operator/resources/all-kinds.ts';
import { waitFor } from '../support/wait-for.ts';
import { crdFiles, hasCel, installCrds, servedKinds } from './support/crds.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('the CustomResourceDefinitions', () => {
  let kubectl: Kubectl;
  let version: string;

  beforeAll(async () => {
    version = sharedControlPlane().version;
    kubectl = kubectlOf(sharedControlPlane());
    await installCrds(kubectl, version);
  });

  test('are one file for each kind, all of them served', async () => {
    const plurals = customResources.map(({ plural }) => plural).sort();
    expect((await crdFiles()).map((file) => basename(file, '.yaml')).sort()).toEqual(plurals);
    expect((await servedKinds(kubectl)).sort()).toEqual(plurals);
  });

  test('are structural: the API server objects to nothing in them', async () => {
    for (const { plural, group } of customResources) {
      const path = '{range .status.conditions[*]}{.type}={.status} {end}';
      const conditions = await kubectl.run(['get', 'crd', `${plural}.${group}`, '-o', `jsonpath=${path}`]);
      expect(conditions.trim().split(' ').sort()).toEqual(['Established=True', 'NamesAccepted=True']);
    }
  });

  test('explain themselves: kubectl explain describes every kind and every field of its spec', async () => {
    for (const { plural, description, spec } of customResources) {
      // The documents that kubectl explain reads are made some moments after a kind is served.
      await waitFor(async () => (await kubectl.try(['explain', plural])).status === 0, { timeoutMs: 30_000 });
      expect(oneLine(await kubectl.run(['explain', plural]))).toContain(oneLine(description));
      const explained = oneLine(await kubectl.run(['explain', `${plural}.spec`]));
      for (const [field, schema] of Object.entries(spec.shape)) {
        const { description = 'no description' } = z.toJSONSchema(schema as z.ZodType, { io: 'input' });
        expect(explained).toMatch(new RegExp(`\\b${field} <[^>]*>`));
        expect(explained).toContain(oneLine(description));
      }
    }
  });

  test('belong to a category, so that one command lists all of them', async () => {
    expect((await kubectl.try(['get', 'understudy', '--all-namespaces'])).status).toBe(0);
  });

  test('refuse what breaks the schema, and say which field', async () => {
    const refused = await kubectl.try(
      ['create', '--validate=false', '-f', '-'],
      volume({ size: 'large', nodeName: 'a' }),
    );
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('spec.size');
    const missing = await kubectl.try(['create', '--validate=false', '-f', '-'], volume({ nodeName: 'a' }));
    expect(missing.stderr).toContain('spec.size: Required value');
  });

  test('refuse with CEL what breaks a rule between fields', async ({ skip }) => {
    skip(!hasCel(version), `${version} has no CEL: the operator checks it`);
    const both = volume({ size: '1Gi', nodeName: 'a', nodeSelector: { b: 'c' } });
    const refused = await kubectl.try(['create', '-f', '-'], both);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('exactly one of nodeName and nodeSelector');
  });
});

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

function volume(spec: object): string {
  const metadata = { name: 'refused', namespace: 'default' };
  return JSON.stringify({ apiVersion: 'understudy.dev/v1alpha1', kind: 'PrimaryVolume', metadata, spec });
}
