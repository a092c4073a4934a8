import { z } from 'zod';
import { addressSchema } from '../agent/api/contract/fields.ts';
import { isLoopback, parseAddress } from '../common/address.ts';
import { logLevelSchema } from '../common/logging.ts';

/** The configuration file of an operator. Unknown keys are refused. */
const agentSchema = z
  .strictObject({
    /** The name of the node, as NodePools have it. */
    node: z.string().min(1).max(253),
    /** Where its agent's API is. */
    url: z.url({ protocol: /^https?$/, error: 'expected an address such as https://10.0.0.7:7071' }),
    /** Where its agent takes mirror links, as other nodes reach it. */
    mirrorAddress: addressSchema,
  })
  .refine(({ url }) => url.startsWith('https:') || isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, '')), {
    path: ['url'],
    error: 'must be https, except for an agent on this machine (127.0.0.1)',
  });

export const operatorConfigSchema = z
  .strictObject({
    kube: z
      .strictObject({
        /** A kubeconfig file; without it, KUBECONFIG or ~/.kube/config. */
        kubeconfig: z.string().optional(),
        /** A context of it other than its current one. */
        context: z.string().optional(),
        /** Use the service account of the pod instead of a kubeconfig. */
        inCluster: z.boolean().default(false),
      })
      .prefault({}),
    /** Look at the objects of this namespace only. */
    namespace: z.string().min(1).max(63).optional(),
    agents: z.array(agentSchema).default([]),
    /** Files in PEM, for agents with https addresses: the authority, and the operator's own certificate and key. */
    tls: z.strictObject({ ca: z.string(), cert: z.string(), key: z.string() }).optional(),
    log: z.strictObject({ level: logLevelSchema.default('info') }).prefault({}),
    /** The CSI controller service for Kubernetes' side-cars; without it, none. */
    csi: z
      .strictObject({
        socket: z.string().regex(/^\/[^\0]*$/, 'expected an absolute path'),
        /** Where volumes are made of which no namespace is said. */
        namespace: z.string().min(1).max(63).default('default'),
      })
      .optional(),
    /** For probes and metrics; without it, none. */
    health: z.strictObject({ listen: z.string().superRefine(checkAddress) }).optional(),
  })
  .superRefine((config, context) => {
    for (const [index, agent] of config.agents.entries()) {
      if (config.agents.findIndex(({ node }) => node === agent.node) !== index) {
        context.addIssue({ code: 'custom', path: ['agents', index, 'node'], message: `${agent.node} is there twice` });
      }
      if (agent.url.startsWith('https:') && config.tls === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['tls'],
          message: `missing: the agent of ${agent.node} is reached over https`,
        });
        break;
      }
    }
    if (config.kube.inCluster && config.kube.kubeconfig !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['kube', 'inCluster'],
        message: 'expected either inCluster or kubeconfig, got both',
      });
    }
  });

export type OperatorConfig = z.output<typeof operatorConfigSchema>;

function checkAddress(text: string, context: z.RefinementCtx): void {
  try {
    parseAddress(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
}
