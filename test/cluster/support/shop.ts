import { workloadImage } from '../image/images.ts';

/** The owner of the files, as in the examples. */
const securityContext = { runAsUser: 999, runAsGroup: 999, fsGroup: 999 };

/** An application with two volumes, each mounted at a folder of its name; it does what it is told with `kubectl exec`. */
export function shop(...claims: readonly string[]): object {
  const labels = { app: 'shop' };
  const container = { name: 'shop', image: workloadImage, command: ['sleep', 'infinity'] };
  const spec = { securityContext, terminationGracePeriodSeconds: 1, ...mounted(container, claims) };
  const strategy = { type: 'Recreate' };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'shop' },
    spec: { replicas: 1, strategy, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
  };
}

/** A pod that runs a command on claims, and ends. */
export function reader(name: string, claims: readonly string[], command: string): object {
  const container = { name, image: workloadImage, command: ['sh', '-ec', command] };
  const spec = { restartPolicy: 'Never', securityContext, ...mounted(container, claims) };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec };
}

function mounted(container: object, claims: readonly string[]): object {
  const volumeMounts = claims.map((name) => ({ name, mountPath: `/${name}` }));
  const volumes = claims.map((name) => ({ name, persistentVolumeClaim: { claimName: name } }));
  return { containers: [{ ...container, volumeMounts }], volumes };
}
