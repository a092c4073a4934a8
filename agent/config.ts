import { posix } from 'node:path';
import { z } from 'zod';
import { isLoopback, isWildcard, parseAddress } from '../common/address.ts';
import { errorMessage } from '../common/errors.ts';
import { logLevelSchema } from '../common/logging.ts';
import { type Network, networkSchema } from '../common/network.ts';
import { nameSchema, sizeSchema } from './api/contract/fields.ts';

/**
 * The path of a unix socket holds at most 107 bytes. This leaves enough of them for "/", a volume's name as the operator
 * chooses it (39 characters), and ".sock".
 */
const maxSocketDirectoryLength = 60;
const maxSocketPathBytes = 107;
/** Leaves enough for "/csi.understudy.dev-reg.sock". */
const maxRegistrationDirectoryLength = 79;

const absolutePathSchema = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, 'expected an absolute path')
  .refine((path) => !path.split('/').includes('..'), 'must not contain ".."')
  .transform((path) => posix.resolve(path));

const socketPathSchema = absolutePathSchema.refine(
  (path) => Buffer.byteLength(path) <= maxSocketPathBytes,
  `expected at most ${maxSocketPathBytes} bytes, the limit for the path of a socket`,
);

const listenSchema = z.string().superRefine((text, context) => {
  checkAddress(text, context);
});

const advertiseSchema = z.string().superRefine((text, context) => {
  const address = checkAddress(text, context);
  if (address?.port === 0) context.addIssue({ code: 'custom', message: 'must have a port above 0' });
  if (address && isWildcard(address.host)) {
    context.addIssue({ code: 'custom', message: 'must be an address that other nodes can connect to' });
  }
});

/** One of the two kinds of pools. */
export type PoolConfig = DirectoryPool | DevicePool;
export interface DirectoryPool {
  readonly name: string;
  readonly directory: string;
}
export interface DevicePool {
  readonly name: string;
  readonly devices: readonly string[];
}

interface PoolEntry {
  readonly pool: PoolConfig;
  readonly nodes: readonly string[] | undefined;
}

const poolSchema = z
  .strictObject({
    name: nameSchema,
    /** Volumes or buffers become files in it. */
    directory: absolutePathSchema.optional(),
    /** Raw block devices, each for one volume or buffer. */
    devices: z.array(absolutePathSchema).min(1).optional(),
    /** The nodes that have the pool, if not all of them that have this file. */
    nodes: z.array(nameSchema).min(1).optional(),
  })
  .transform(({ name, directory, devices, nodes }, context): PoolEntry => {
    if (directory !== undefined && devices === undefined) return { pool: { name, directory }, nodes };
    if (devices !== undefined && directory === undefined) return { pool: { name, devices }, nodes };
    const found = directory === undefined ? 'neither' : 'both';
    context.addIssue({ code: 'custom', message: `needs either directory or devices, found ${found}` });
    return z.NEVER;
  });

const enrollmentSchema = z.strictObject({
  /** Where the operator gives certificates. */
  url: z.url({
    protocol: /^https$/,
    error: 'expected an address such as https://understudy-operator.understudy.svc:7074',
  }),
  /** The authorities, PEM: the operator keeps them in a ConfigMap. */
  caFile: absolutePathSchema,
  /** A service account token that is bound to this pod, as the kubelet projects it. */
  tokenFile: absolutePathSchema,
  /** Where this node's key and certificate are kept. */
  directory: absolutePathSchema,
});

const tlsSchema = z
  .strictObject({
    enrollment: enrollmentSchema.optional(),
    ca: absolutePathSchema.optional(),
    cert: absolutePathSchema.optional(),
    key: absolutePathSchema.optional(),
    insecure: z.literal(true).optional(),
  })
  .transform(({ ca, cert, key, insecure, enrollment }, context) => {
    const noFile = ca === undefined && cert === undefined && key === undefined;
    if (enrollment && noFile && !insecure) return { enrollment };
    if (insecure && noFile && !enrollment) return { insecure };
    if (!insecure && !enrollment && ca !== undefined && cert !== undefined && key !== undefined)
      return { ca, cert, key };
    context.addIssue({
      code: 'custom',
      message: 'needs ca, cert and key, or enrollment alone, or insecure: true alone',
    });
    return z.NEVER;
  });

const csiSchema = z.strictObject({
  /** Where the kubelet, or its registrar, calls this node's CSI service. */
  socket: socketPathSchema,
  /** The kubelet's folder of plugins that make themselves known; without it a sidecar does that. */
  registration: absolutePathSchema
    .refine(
      (path) => path.length <= maxRegistrationDirectoryLength,
      `expected at most ${maxRegistrationDirectoryLength} characters, since the path of a socket in it is limited`,
    )
    .optional(),
  /** Nothing is mounted outside of it for the kubelet. */
  kubeletDirectory: absolutePathSchema.optional(),
});

/** The configuration file of an agent; described for users in docs/agent-configuration.md. */
export const agentConfigSchema = z
  .strictObject({
    node: nameSchema,
    stateDirectory: absolutePathSchema,
    pools: z.array(poolSchema).min(1).superRefine(checkPools),
    api: z.strictObject({ listen: listenSchema }),
    mirror: z.strictObject({
      listen: listenSchema,
      advertise: advertiseSchema.optional(),
      /** A network in which this node has an address: that is where other nodes reach it. */
      network: networkSchema.optional(),
      resyncBytesPerSecond: sizeSchema.optional(),
    }),
    nbd: z.strictObject({
      directory: absolutePathSchema.refine(
        (path) => path.length <= maxSocketDirectoryLength,
        `expected at most ${maxSocketDirectoryLength} characters, since the path of a socket in it is limited`,
      ),
      /** For clients of other machines; without it there are the unix sockets only. */
      listen: listenSchema.optional(),
      /** What they may use. */
      exports: z.enum(['snapshots', 'all']).default('snapshots'),
    }),
    attach: z.enum(['auto', 'nbd', 'fuse', 'none']).default('auto'),
    arbiter: z.enum(['none', 'kubernetes']).default('none'),
    /** How the API server is reached; without a file, with the service account of the pod. */
    kubernetes: z.strictObject({ kubeconfig: absolutePathSchema.optional() }).optional(),
    tls: tlsSchema,
    csi: csiSchema.optional(),
    log: z.strictObject({ level: logLevelSchema.default('info') }).default({ level: 'info' }),
  })
  .superRefine((config, context) => {
    if ('insecure' in config.tls) checkLoopbackOnly(config, context);
    if (config.csi && config.attach === 'none') {
      const message = 'must not be none where there is csi, which mounts';
      context.addIssue({ code: 'custom', path: ['attach'], message, input: config.attach });
    }
    for (const [index, { pool }] of config.pools.entries()) {
      // A broken one is looked at too, but has been complained about already.
      if (pool !== undefined && 'directory' in pool && contains(pool.directory, config.stateDirectory)) {
        const message = `must not contain the stateDirectory, ${config.stateDirectory}; a directory below that is fine`;
        context.addIssue({ code: 'custom', path: ['pools', index, 'directory'], message, input: pool.directory });
      }
    }
  })
  .transform((config, context) => {
    const { listen, advertise, network, resyncBytesPerSecond } = config.mirror;
    const advertised = network ?? advertise ?? listen;
    const issue = unreachable(config.mirror);
    if (issue) {
      context.addIssue({ code: 'custom', ...issue, path: ['mirror', issue.key] });
      return z.NEVER;
    }
    const pools = config.pools.filter(({ nodes }) => nodes?.includes(config.node) ?? true).map(({ pool }) => pool);
    return { ...config, pools, mirror: { listen, advertised, resyncBytesPerSecond } };
  });

export type AgentConfig = z.output<typeof agentConfigSchema>;
/** Certificates in files, or none. */
export type TlsConfig = Exclude<z.output<typeof tlsSchema>, { enrollment: unknown }>;
export type EnrollmentConfig = z.output<typeof enrollmentSchema>;

/** Without TLS everyone who can connect owns the volumes, so nobody outside this machine may be able to connect. */
function checkLoopbackOnly(
  config: { api: { listen: string }; mirror: { listen: string }; nbd: { listen?: string | undefined } },
  context: z.core.$RefinementCtx,
): void {
  for (const section of ['api', 'mirror', 'nbd'] as const) {
    const { listen } = config[section];
    if (listen === undefined || isLoopback(parseAddress(listen).host)) continue;
    const message =
      `${JSON.stringify(listen)} is not a loopback address, and tls.insecure is accepted on loopback only; ` +
      'set tls.ca, tls.cert and tls.key instead';
    context.addIssue({ code: 'custom', path: [section, 'listen'], message });
  }
}

interface MirrorPlaces {
  readonly listen: string;
  readonly advertise?: string | undefined;
  readonly network?: Network | undefined;
}

/** Why it does not say at which one address other nodes reach the mirror port. */
function unreachable({ listen, advertise, network }: MirrorPlaces) {
  const { host, port } = parseAddress(listen);
  if (network === undefined) {
    if (advertise !== undefined || !isWildcard(host)) return undefined;
    const message = `missing: mirror.listen is ${JSON.stringify(listen)}, so say at which address other nodes reach this one`;
    return { key: 'advertise', message };
  }
  if (advertise !== undefined) {
    const message = 'expected either mirror.advertise or mirror.network, not both';
    return { key: 'network', message, input: network.text };
  }
  if (isWildcard(host) && port !== 0) return undefined;
  const message = 'with mirror.network, expected all addresses and a port above 0, such as 0.0.0.0:7072';
  return { key: 'listen', message, input: listen };
}

/** On a node, each name and device once, and no directory in another's: whatever is in a pool's directory is taken for a volume. */
function checkPools(entries: readonly PoolEntry[], context: z.core.$RefinementCtx): void {
  for (const [index, { pool, nodes }] of entries.entries()) {
    if (pool === undefined) continue; // broken
    const earlier = entries.map((entry, at) => (at < index && shareNode(entry.nodes, nodes) ? entry.pool : undefined));
    const namesake = earlier.findIndex((candidate) => candidate?.name === pool.name);
    if (namesake >= 0) {
      const message = `pool ${JSON.stringify(pool.name)} is there already, as pools[${namesake}]`;
      context.addIssue({ code: 'custom', path: [index, 'name'], message });
    }
    const other = earlier.find((candidate) => candidate !== undefined && overlap(candidate, pool));
    if (other) {
      const path = [index, 'directory' in pool ? 'directory' : 'devices'];
      const message = `must have nothing in common with that of pool ${JSON.stringify(other.name)}`;
      context.addIssue({ code: 'custom', path, message, input: 'directory' in pool ? pool.directory : pool.devices });
    }
  }
}

function shareNode(a: PoolEntry['nodes'], b: PoolEntry['nodes']): boolean {
  return a === undefined || b === undefined || a.some((node) => b.includes(node));
}

function overlap(a: PoolConfig, b: PoolConfig): boolean {
  if ('devices' in a) return 'devices' in b && a.devices.some((device) => b.devices.includes(device));
  return 'directory' in b && (contains(a.directory, b.directory) || contains(b.directory, a.directory));
}

function contains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === '/' ? outer : `${outer}/`);
}

function checkAddress(text: string, context: z.core.$RefinementCtx): ReturnType<typeof parseAddress> | undefined {
  try {
    return parseAddress(text);
  } catch (error) {
    // What looks at several addresses at once does not run when one is wrong.
    context.addIssue({ code: 'custom', message: errorMessage(error), continue: false });
    return undefined;
  }
}
