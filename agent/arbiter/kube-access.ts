import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { isLoopback } from '../../common/address.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';

/** With what a request to the API server is made. Read again for each: tokens and certificates are renewed in place. */
export interface KubeCredentials {
  /** Without a slash at its end. */
  readonly server: string;
  readonly token: string | undefined;
  /** PEM. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** The server's certificate is not looked at. */
  readonly insecure: boolean;
}

/** Where the credentials come from. */
export type KubeAccess = () => Promise<KubeCredentials>;

const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * The service account of the pod that this process is in.
 * Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
 * @throws UnderstudyError Invalid outside of a pod
 */
export function inClusterAccess(
  environment: Readonly<Record<string, string | undefined>>,
  directory = serviceAccountDirectory,
): KubeAccess {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = environment;
  if (!host) {
    throw new UnderstudyError(
      'Invalid',
      'arbiter: kubernetes without kubernetes.kubeconfig works in a pod only (KUBERNETES_SERVICE_HOST is not set)',
    );
  }
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return async () => ({
    server,
    token: (await readPart(`${directory}/token`)).trim(),
    ca: await readPart(`${directory}/ca.crt`),
    cert: undefined,
    key: undefined,
    insecure: false,
  });
}

const named = <Name extends string, Value extends z.ZodType>(name: Name, value: Value) =>
  z.array(z.looseObject({ name: z.string(), [name]: value } as Record<'name', z.ZodString> & Record<Name, Value>));

/** The part of a kubeconfig that is understood. Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ */
const kubeconfigSchema = z.looseObject({
  'current-context': z.string().optional(),
  contexts: named('context', z.looseObject({ cluster: z.string(), user: z.string() })),
  clusters: named(
    'cluster',
    z.looseObject({
      server: z.string(),
      'certificate-authority': z.string().optional(),
      'certificate-authority-data': z.string().optional(),
      'insecure-skip-tls-verify': z.boolean().optional(),
    }),
  ),
  users: named(
    'user',
    z.looseObject({
      token: z.string().optional(),
      tokenFile: z.string().optional(),
      'client-certificate': z.string().optional(),
      'client-certificate-data': z.string().optional(),
      'client-key': z.string().optional(),
      'client-key-data': z.string().optional(),
    }),
  ),
});

const unsupported = ['exec', 'auth-provider', 'username', 'password'];

/**
 * The current context of a kubeconfig file, which is read again for each request.
 * @throws UnderstudyError (from the access) Invalid for what cannot be read, or is not supported
 */
export function kubeconfigAccess(file: string): KubeAccess {
  return async () => {
    const config = parseKubeconfig(await readPart(file), file);
    const context = config.contexts.find(({ name }) => name === config['current-context'])?.context;
    const cluster = config.clusters.find(({ name }) => name === context?.cluster)?.cluster;
    const user = config.users.find(({ name }) => name === context?.user)?.user;
    if (cluster === undefined || user === undefined) {
      throw new UnderstudyError('Invalid', `${file}: its current-context names no cluster and user of the file`);
    }
    const foreign = unsupported.find((way) => way in user);
    if (foreign !== undefined) {
      throw new UnderstudyError('Invalid', `${file}: expected a token or a client certificate, got "${foreign}"`);
    }
    const server = cluster.server.replace(/\/+$/, '');
    checkServer(server, file);
    const part = (inline: string | undefined, path: string | undefined) => partOf(file, inline, path);
    return {
      server,
      token: user.token ?? (await part(undefined, user.tokenFile))?.trim(),
      ca: await part(cluster['certificate-authority-data'], cluster['certificate-authority']),
      cert: await part(user['client-certificate-data'], user['client-certificate']),
      key: await part(user['client-key-data'], user['client-key']),
      insecure: cluster['insecure-skip-tls-verify'] === true,
    };
  };
}

function parseKubeconfig(text: string, file: string): z.output<typeof kubeconfigSchema> {
  try {
    return kubeconfigSchema.parse(parse(text));
  } catch (cause) {
    throw new UnderstudyError('Invalid', `${file} is no kubeconfig: ${errorMessage(cause)}`);
  }
}

/** A token in clear text belongs to whoever listens. */
function checkServer(server: string, file: string): void {
  const { protocol, hostname } = new URL(server);
  if (protocol === 'https:' || isLoopback(hostname.replace(/^\[|\]$/g, ''))) return;
  throw new UnderstudyError('Invalid', `${file}: server must be https, except on this machine; got ${server}`);
}

async function partOf(file: string, inline: string | undefined, path: string | undefined): Promise<string | undefined> {
  if (inline !== undefined) return Buffer.from(inline, 'base64').toString('utf8');
  return path === undefined ? undefined : readPart(resolve(dirname(file), path));
}

async function readPart(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new UnderstudyError('Invalid', `cannot read ${file}`, { cause });
  }
}
