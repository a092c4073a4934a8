import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';

/** Makes `app.swagger()` the OpenAPI document of all routes that are added after it. */
export async function describeRoutes(app: FastifyInstance, version: string): Promise<void> {
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
        { name: 'health', description: 'Probes and metrics' },
      ],
    },
    transform: jsonSchemaTransform,
  });
}
