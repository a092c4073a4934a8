import { z } from 'zod';
import { addressSchema } from '../agent/api/contract/fields.ts';
import { isLoopback, parseAddress } from '../common/address.ts';
import { logLevelSchema } from '../common/logging.ts';
import { networkSchema } from '../common/network.ts';
import { durationPattern, parseDurationMs } from './resources/duration.ts';

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

/** "30s", "24h"; parsed into milliseconds. */
const durationSchema = (shortest: string, longest = '87600h') =>
  z
    .string()
    .regex(durationPattern, 'expected a duration such as 30s or 24h')
    .refine(
      (text) => parseDurationMs(text) >= parseDurationMs(shortest) && parseDurationMs(text) <= parseDurationMs(longest),
      `expected at least ${shortest} and at most ${longest}`,
    );

const objectNameSchema = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, 'expected the name of a Kubernetes object');

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
    /** Where the operator itself runs: its lease, its authority and the pods of its agents are there. */
    ownNamespace: z.string().min(1).max(63).optional(),
    /** Only the replica that has this lease acts; without it, there must be no other replica. */
    leaderElection: z
      .strictObject({
        lease: objectNameSchema.default('understudy-operator'),
        /** Unlike that of any other process; by default the host's name and something random. */
        identity: z.string().min(1).max(253).optional(),
        /** After this time without a sign of the leader another replica takes over. */
        leaseSeconds: z.number().int().min(2).max(300).default(15),
      })
      .optional(),
    /**
     * Keep an authority, and use certificates of it, instead of the files of `tls`.
     */
    certificates: z
      .strictObject({
        secret: objectNameSchema.default('understudy-authority'),
        configMap: objectNameSchema.default('understudy-ca'),
        /** How long an authority is valid; the next one is made after two thirds of it. */
        authorityLife: durationSchema('1m').default('8760h'),
        /** How long a certificate is valid; agents renew theirs after two thirds of it. */
        life: durationSchema('10s', '480h').default('168h'),
        /** How long a new authority is published before it signs. */
        publish: durationSchema('1s').default('1h'),
      })
      .optional(),
    /** Give the agents their certificates. */
    enrollment: z
      .strictObject({
        listen: z.string().superRefine(checkAddress),
        /** Of the agents' pods, in `ownNamespace`. */
        serviceAccount: objectNameSchema.default('understudy-agent'),
        /** Of the tokens with which they ask. */
        audience: z.string().min(1).max(253).default('understudy'),
        /** Names and addresses of this endpoint, for its certificate. */
        names: z.array(z.string().min(1).max(253)).max(16).default([]),
      })
      .optional(),
    /** Find the agents by their pods in `ownNamespace`. */
    agentPods: z
      .strictObject({
        labelSelector: z.string().min(1).default('app.kubernetes.io/component=agent'),
        apiPort: z.number().int().min(1).max(65535).default(7071),
        mirrorPort: z.number().int().min(1).max(65535).default(7072),
        /** Mirror links go over this network: each agent is asked for its address there. Without it, to the node's address. */
        mirrorNetwork: networkSchema.optional(),
      })
      .optional(),
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
      if (agent.url.startsWith('https:') && config.tls === undefined && config.certificates === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['tls'],
          message: `missing: the agent of ${agent.node} is reached over https`,
        });
        break;
      }
    }
    const needed = (section: keyof typeof config, what: keyof typeof config) => {
      if (config[section] === undefined || config[what] !== undefined) return;
      context.addIssue({ code: 'custom', path: [what], message: `missing: ${section} needs it` });
    };
    for (const section of ['leaderElection', 'certificates', 'agentPods'] as const) needed(section, 'ownNamespace');
    needed('enrollment', 'certificates');
    if (config.tls === undefined) needed('agentPods', 'certificates');
    else if (config.certificates !== undefined) {
      context.addIssue({ code: 'custom', path: ['tls'], message: 'expected either tls or certificates, got both' });
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
