import { renderChart } from '../../chart/support/helm.ts';
import { type Kubectl, kubectlOf } from '../../kubernetes/support/kubectl.ts';
import { understudyImage } from '../image/images.ts';
import type { ClusterFacts } from './cluster.ts';

export const namespace = 'understudy';
export const nodes = ['node-a', 'node-b'] as const;
/** Of each node; NodePool objects come from examples/. */
export const pools = [
  { name: 'main', directory: '/var/lib/understudy/main' },
  { name: 'buffer', directory: '/srv/understudy-buffer' },
];
/** Nodes of the rig resolve no names, so the operator's Service has an address that is known before. */
const operatorAddress = '10.96.0.74';

const values = {
  image: { repository: understudyImage.repository, tag: understudyImage.tag, pullPolicy: 'Never' },
  pools,
  operator: { clusterIP: operatorAddress, logLevel: 'debug', hooks: true, evictPods: true, jobs: true },
  // The kernel here may have no nbd, and no modules.
  agent: { attach: 'fuse', modulesDirectory: '', enrollmentUrl: `https://${operatorAddress}:7074` },
  storageClasses: [
    { name: 'understudy', default: true, parameters: { pool: 'main', bufferPool: 'buffer', bufferCapacity: '256Mi' } },
  ],
};

/** What a user's `helm template | kubectl apply` sends. */
export async function chartManifests(overrides: object = {}): Promise<string> {
  return await renderChart({ ...values, ...overrides }, { kubeVersion: '1.20.2', namespace, includeCrds: true });
}

/** Applies text as the user would; 1.20 does not know CEL rules, and drops them. */
export async function apply(kubectl: Kubectl, manifests: string): Promise<void> {
  await kubectl.run(['apply', '--validate=false', '-f', '-'], manifests);
}

export async function installChart(kubectl: Kubectl): Promise<void> {
  await kubectl.run(['create', 'namespace', namespace]);
  await apply(kubectl, await chartManifests());
}

export function kubectlIn(cluster: ClusterFacts): Kubectl {
  return kubectlOf(cluster);
}

/** What there is of a pod that does not become ready, for the message of a failed test. */
export async function explainPods(kubectl: Kubectl, inNamespace: string): Promise<string> {
  const parts = [
    ['get', 'pods', '-o', 'wide'],
    ['get', 'events', '--sort-by=.lastTimestamp'],
  ].map((args) => kubectl.try([...args, '-n', inNamespace]));
  const names = (await kubectl.try(['get', 'pods', '-n', inNamespace, '-o', 'name'])).stdout
    .split('\n')
    .filter(Boolean);
  const logs = names.map(async (name) => {
    const { stdout, stderr } = await kubectl.try(['logs', '-n', inNamespace, '--tail=20', name]);
    return { stdout: `--- ${name}\n${stdout}${stderr}` };
  });
  return (await Promise.all([...parts, ...logs])).map(({ stdout }) => stdout).join('\n');
}

/** `kubectl rollout status`. @throws Error that tells what the pods are at */
export async function rolledOut(kubectl: Kubectl, inNamespace: string, what: string, timeout = '180s'): Promise<void> {
  const outcome = await kubectl.try(['rollout', 'status', '-n', inNamespace, `--timeout=${timeout}`, what]);
  if (outcome.status !== 0) throw new Error(`${what}: ${outcome.stderr}\n${await explainPods(kubectl, inNamespace)}`);
}

/** `kubectl wait`. @throws Error that tells what the object says of itself */
export async function waitsFor(kubectl: Kubectl, args: readonly string[], timeout = '120s'): Promise<void> {
  const outcome = await kubectl.try(['wait', `--timeout=${timeout}`, ...args]);
  if (outcome.status === 0) return;
  const object = await kubectl.try(['get', '-o', 'yaml', ...args.filter((arg) => !arg.startsWith('--for'))]);
  throw new Error(`${outcome.stderr}\n${object.stdout}\n${await explainPods(kubectl, namespace)}`);
}
