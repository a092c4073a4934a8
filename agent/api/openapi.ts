import swagger, { type SwaggerTransformObject } from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { mountViewSchema, snapshotMountSchema, volumeMountSchema } from './contract/mounts.ts';
import { nodeViewSchema } from './contract/node.ts';
import { problemSchema } from './contract/problem.ts';
import { snapshotRequestSchema } from './contract/snapshots.ts';
import {
  prepareRequestSchema,
  prepareResultSchema,
  snapshotViewSchema,
  volumeSpecSchema,
  volumeViewSchema,
} from './contract/volumes.ts';

/** The schemas that have a name of their own in the document. */
const components: Readonly<Record<string, z.ZodType>> = {
  MountView: mountViewSchema,
  NodeView: nodeViewSchema,
  PrepareRequest: prepareRequestSchema,
  PrepareResult: prepareResultSchema,
  Problem: problemSchema,
  SnapshotMount: snapshotMountSchema,
  SnapshotRequest: snapshotRequestSchema,
  SnapshotView: snapshotViewSchema,
  VolumeMount: volumeMountSchema,
  VolumeSpec: volumeSpecSchema,
  VolumeView: volumeViewSchema,
};

/** Makes `app.swagger()` the OpenAPI document of all routes that are added after it. */
export async function describeRoutes(app: FastifyInstance, version: string): Promise<void> {
  const schemaRegistry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(components)) schemaRegistry.add(schema, { id });
  const options = { schemaRegistry, zodToJsonConfig: { override: leaveAnswersOpen } };
  const transformObject = createJsonSchemaTransformObject(options);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Understudy agent',
        version,
        description: 'The volumes, snapshots and mounts of one node. Sizes are bytes or Kubernetes quantities.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'volumes', description: 'Copies of volumes' },
        { name: 'snapshots', description: 'Snapshots of a copy' },
        { name: 'mounts', description: 'Mounts on this node' },
        { name: 'node', description: 'The agent itself' },
        { name: 'health', description: 'Probes and metrics' },
      ],
    },
    transform: createJsonSchemaTransform(options),
    transformObject: (document) => withoutUnused(transformObject(document)),
  });
}

/** A client must expect keys that a newer agent adds to its answers, so only what refuses unknown keys says so. */
const leaveAnswersOpen: NonNullable<z.core.ToJSONSchemaParams['override']> = ({ zodSchema, jsonSchema }) => {
  const { def } = zodSchema._zod;
  if (def.type === 'object' && def.catchall === undefined) delete jsonSchema.additionalProperties;
};

/** Every named schema comes in two variants, as input and as output; of most only one is used. */
function withoutUnused(document: ReturnType<SwaggerTransformObject>): ReturnType<SwaggerTransformObject> {
  if (!('components' in document) || !document.components?.schemas) return document;
  const { schemas } = document.components;
  const isUnused = (name: string) => !JSON.stringify(document).includes(`"#/components/schemas/${name}"`);
  for (;;) {
    const unused = Object.keys(schemas).filter(isUnused);
    if (unused.length === 0) return document;
    for (const name of unused) delete schemas[name];
  }
}
