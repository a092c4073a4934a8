import { z } from 'zod';
import type { AnyCustomResource } from './all-kinds.ts';
import { category } from './group.ts';

/** A node of a structural OpenAPI v3 schema. */
type Schema = { [key: string]: unknown };

/**
 * The CustomResourceDefinition of a kind, as plain data.
 * Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
 * @param cel whether to write the rules as CEL. They need Kubernetes 1.29 (its quantity() function): before, an API server
 *   refuses such a rule, or, before 1.25, drops all of them, while kubectl of that time refuses the manifest.
 */
export function customResourceDefinition(resource: AnyCustomResource, options: { readonly cel: boolean }): object {
  const spec = structural(resource.spec);
  if (options.cel) spec['x-kubernetes-validations'] = celRules(resource);
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.singular,
        shortNames: [...resource.shortNames],
        categories: [category],
      },
      scope: resource.namespaced ? 'Namespaced' : 'Cluster',
      versions: [
        {
          name: resource.version,
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: resource.description,
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: { description: 'What is wanted.', ...spec },
                status: { description: 'What is the case; written by the operator.', ...structural(resource.status) },
              },
            },
          },
          subresources: { status: {} },
          additionalPrinterColumns: resource.printerColumns.map((column) => ({ ...column })),
        },
      ],
    },
  };
}

function celRules(resource: AnyCustomResource): Schema[] {
  return resource.rules.flatMap(({ field, expected, cel }) =>
    cel === undefined ? [] : [{ rule: cel, message: `${field}: expected ${expected}` }],
  );
}

/** The schema of a zod object in the form that the API server asks for, what it does not know left out. */
function structural(schema: z.ZodObject): Schema {
  return clean(z.toJSONSchema(schema, { io: 'input', target: 'openapi-3.0' }));
}

const kept = [
  'type',
  'description',
  'default',
  'enum',
  'format',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'pattern',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
  'required',
  'nullable',
  'x-kubernetes-int-or-string',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
] as const;

function clean(schema: object): Schema {
  const source = new Map<string, unknown>(Object.entries(schema));
  const result: Schema = {};
  for (const key of kept) if (source.has(key)) result[key] = source.get(key);
  dropWideBounds(result);
  // API servers before 1.21 read it as null, and refuse the definition; the operator fills it in itself.
  if (result.default === '') delete result.default;
  if (result['x-kubernetes-int-or-string'] === true) return intOrString(result);
  if (result['x-kubernetes-preserve-unknown-fields'] === true) return { ...result, type: 'object' };
  const literals = literalUnion(source.get('anyOf'));
  if (literals !== undefined) Object.assign(result, literals);
  const properties = source.get('properties');
  if (isObject(properties)) {
    result.properties = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, clean(isObject(property) ? property : {})]),
    );
  }
  const additional = source.get('additionalProperties');
  if (isObject(additional) && properties === undefined) result.additionalProperties = clean(additional);
  const items = source.get('items');
  if (isObject(items)) result.items = clean(items);
  return result;
}

/** zod writes the bounds of safe integers; they say nothing. */
function dropWideBounds(schema: Schema): void {
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
}

function intOrString(schema: Schema): Schema {
  const { type: _, ...rest } = schema;
  return { ...rest, anyOf: [{ type: 'integer' }, { type: 'string' }] };
}

/** A union of constants is an enumeration. */
function literalUnion(branches: unknown): Schema | undefined {
  if (!Array.isArray(branches)) return undefined;
  const values = branches.flatMap((branch: unknown) => {
    if (!isObject(branch)) return [];
    const values = new Map<string, unknown>(Object.entries(branch)).get('enum');
    return Array.isArray(values) ? values : [];
  });
  return { type: values.every((value) => typeof value === 'number') ? 'integer' : 'string', enum: values };
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
