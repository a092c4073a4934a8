import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { customResources } from '../../../operator/resources/all-kinds.ts';
import { customResourceDefinition } from '../../../operator/resources/crd.ts';

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly [extension: `x-kubernetes-${string}`]: unknown;
}

interface Definition {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly scope: string;
    readonly names: { readonly shortNames: string[]; readonly categories: string[] };
    readonly versions: readonly {
      readonly schema: { readonly openAPIV3Schema: Schema };
      readonly subresources: object;
      readonly additionalPrinterColumns: readonly { readonly name: string; readonly jsonPath: string }[];
    }[];
  };
}

const kinds = customResources.map((resource) => [resource.kind, resource] as const);

function definitionOf(kind: string, cel = true): Definition {
  const resource = customResources.find((candidate) => candidate.kind === kind);
  if (resource === undefined) throw new Error(`no kind ${kind}`);
  return customResourceDefinition(resource, { cel }) as Definition;
}

function rootOf(kind: string): Schema {
  return definitionOf(kind).spec.versions[0]?.schema.openAPIV3Schema ?? {};
}

function specOf(kind: string): Schema {
  return rootOf(kind).properties?.spec ?? {};
}

/** Every schema within one, with the way to it. */
function* within(schema: Schema, path = ''): Generator<readonly [string, Schema]> {
  yield [path, schema];
  for (const [name, property] of Object.entries(schema.properties ?? {})) yield* within(property, `${path}.${name}`);
  if (schema.items) yield* within(schema.items, `${path}[]`);
  if (schema.additionalProperties) yield* within(schema.additionalProperties, `${path}{}`);
}

describe.each(kinds)('%s', (kind, resource) => {
  // Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
  test('is structural: every field has one type, and nothing that the API server does not know', () => {
    const known =
      /^(type|description|default|enum|format|minimum|maximum|(min|max)(Length|Items|Properties)|pattern|required|nullable|properties|additionalProperties|items|x-kubernetes-.*)$/;
    for (const [path, schema] of within(rootOf(kind))) {
      const intOrString = schema['x-kubernetes-int-or-string'] === true;
      expect([path, typeof schema.type]).toEqual([path, intOrString ? 'undefined' : 'string']);
      if (intOrString) expect(schema.anyOf).toEqual([{ type: 'integer' }, { type: 'string' }]);
      const unknown = Object.keys(schema).filter((key) => !known.test(key) && !(intOrString && key === 'anyOf'));
      expect([path, unknown]).toEqual([path, []]);
    }
  });

  test('describes every field', () => {
    for (const [path, schema] of within(rootOf(kind))) {
      const own = path !== '' && !/^\.(apiVersion|kind|metadata)$/.test(path) && !/(\[\]|\{\})$/.test(path);
      if (own) expect([path, schema.description]).toEqual([path, expect.stringMatching(/\S/)]);
    }
  });

  test('has the name, scope, category and status that kubectl needs', () => {
    const { metadata, spec } = definitionOf(kind);
    expect(metadata.name).toBe(`${resource.plural}.understudy.dev`);
    expect(spec.scope).toBe(kind === 'NodePool' ? 'Cluster' : 'Namespaced');
    expect(spec.names.categories).toEqual(['understudy']);
    expect(spec.versions[0]?.subresources).toEqual({ status: {} });
  });

  test('shows columns of fields that there are', () => {
    for (const { jsonPath } of definitionOf(kind).spec.versions[0]?.additionalPrinterColumns ?? []) {
      const plain = jsonPath.replace(/\[\?\(@\.\w+=="\w+"\)\]/, '[]');
      const paths = [...within(rootOf(kind))].map(([path]) => path);
      expect([...paths, '.metadata.creationTimestamp']).toContain(plain);
    }
  });

  test('has its rules as CEL, or, on request, no CEL at all', () => {
    const rules = specOf(kind)['x-kubernetes-validations'];
    expect(rules).toHaveLength(resource.rules.filter(({ cel }) => cel !== undefined).length);
    expect(JSON.stringify(definitionOf(kind, false))).not.toContain('x-kubernetes-validations');
  });

  test('has defaults that the schema itself would give', () => {
    for (const [name, schema] of Object.entries(specOf(kind).properties ?? {})) {
      if (schema.default === undefined || typeof schema.default === 'object') continue;
      const field = resource.spec.shape[name] as z.ZodType;
      expect([name, field.parse(undefined)]).toEqual([name, schema.default]);
    }
  });
});

test('what people need not write has a default, and what they must is required', () => {
  expect(specOf('PrimaryVolume').required).toEqual(['size']);
  expect(specOf('StandbyMirror').properties?.buffer?.properties?.maxSnapshots?.default).toBe(32);
  expect(specOf('StandbyMirror').properties?.onLoss).toMatchObject({ enum: ['Suspend', 'Continue'] });
  expect(specOf('StandbyMirror').properties?.failover).toMatchObject({ default: {} });
  expect(specOf('PrimaryVolume').properties?.blockSize).toMatchObject({
    type: 'integer',
    enum: [512, 4096],
    default: 512,
  });
});

test('the rules say what must not change', () => {
  const rules = JSON.stringify([specOf('PrimaryVolume'), specOf('StandbyMirror'), specOf('Snapshot')]);
  for (const rule of [
    'quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0',
    'self.fsType == oldSelf.fsType',
    'self.pool == oldSelf.pool',
    'self.source == oldSelf.source',
    'has(self.nodeName) != has(self.nodeSelector)',
    "self.mode == 'Synchronous' || self.failover.policy != 'Automatic'",
  ]) {
    expect(rules).toContain(rule);
  }
});
