import { z } from 'zod';
import { conditionsField } from './conditions.ts';
import { bytesField, nodeNameField, poolField, quantityField } from './fields.ts';
import { group, version } from './group.ts';
import type { CustomObject } from './kube-object.ts';
import type { CustomResource } from './resource.ts';
import { exactlyOneRule, immutableRule } from './rules.ts';

export const nodePoolSpecSchema = z.object({
  node: nodeNameField('The node whose agent has the pool.'),
  name: poolField(
    'The name of the pool in the configuration of that agent; volumes and mirrors name it in their pool.',
  ),
  directory: z
    .string()
    .max(4096)
    .regex(/^\/[^\0]*$/, 'expected an absolute path')
    .optional()
    .meta({ description: 'The directory of the pool on the node.' }),
  devices: z
    .array(z.string().max(4096).regex(/^\//, 'expected an absolute path'))
    .min(1)
    .max(64)
    .optional()
    .meta({ description: 'The raw devices of the pool on the node, instead of a directory.' }),
  purpose: z
    .enum(['volumes', 'buffer'])
    .default('volumes')
    .meta({ description: 'volumes: copies of volumes may be placed in it. buffer: snapshot buffers only.' }),
  capacity: quantityField(
    'Bytes that volumes and buffers may take in all. Without it there is no limit but the disk, which the agent checks.',
  ).optional(),
});

export const nodePoolStatusSchema = z.object({
  observedGeneration: z.int().optional().meta({ description: 'The generation this status is about.', format: 'int64' }),
  copies: z.int().optional().meta({ description: 'Copies of volumes and buffers that are placed here.' }),
  allocatedBytes: bytesField('Bytes promised to them.').optional(),
  allocatedPercent: z.int().optional().meta({ description: 'Their share of the capacity, if that is given.' }),
  conditions: conditionsField,
});

export type NodePoolSpec = z.output<typeof nodePoolSpecSchema>;
export type NodePoolStatus = z.output<typeof nodePoolStatusSchema>;
export type NodePool = CustomObject<NodePoolSpec, NodePoolStatus>;

/**
 * A NodePool tells the operator where it may place things. Nothing at an agent belongs to it, so it has no finalizer:
 * deleting one only stops new placements there.
 */
export const nodePools: CustomResource<NodePoolSpec, NodePoolStatus> = {
  group,
  version,
  kind: 'NodePool',
  plural: 'nodepools',
  singular: 'nodepool',
  shortNames: ['upool'],
  namespaced: false,
  statusSubresource: true,
  description: 'A place on a node in which copies of volumes, or snapshot buffers, may live.',
  spec: nodePoolSpecSchema,
  status: nodePoolStatusSchema,
  immutable: [],
  rules: [
    exactlyOneRule<NodePoolSpec>('', (spec: NodePoolSpec) => spec, 'directory', 'devices'),
    immutableRule<NodePoolSpec>('node', false),
    immutableRule<NodePoolSpec>('name', false),
  ],
  printerColumns: [
    { name: 'Node', type: 'string', jsonPath: '.spec.node', description: 'Where it is.' },
    { name: 'Pool', type: 'string', jsonPath: '.spec.name', description: 'Its name at the agent.' },
    { name: 'Purpose', type: 'string', jsonPath: '.spec.purpose', description: 'What may be placed in it.' },
    { name: 'Copies', type: 'integer', jsonPath: '.status.copies', description: 'Copies and buffers placed in it.' },
    { name: 'Capacity', type: 'string', jsonPath: '.spec.capacity', description: 'What they may take in all.' },
    {
      name: 'Full%',
      type: 'integer',
      jsonPath: '.status.allocatedPercent',
      description: 'The share of it that is promised.',
    },
    ready(),
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since its creation.' },
  ],
};

function ready() {
  return {
    name: 'Ready',
    type: 'string',
    jsonPath: '.status.conditions[?(@.type=="Ready")].status',
    description: 'Whether its agent answers.',
  } as const;
}
