import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { at, type Manifest, parseManifests } from '../../chart/support/helm.ts';
import { workloadImage } from '../image/images.ts';
import { projectDirectory } from './project.ts';

/** Where restic keeps its repository: a folder of node-b, which stands for a store elsewhere. */
export const repositoryFolder = '/srv/backup-repository';

/** Of every volume: disks of nodes are folders of this machine, and volumes are thick. */
const volumeSize = '512Mi';

/** Of a workload, a CronJob, and a SnapshotSchedule with a Job. */
const podSpecs = ['spec.template.spec', 'spec.jobTemplate.spec.template.spec', 'spec.job.template.spec.template.spec'];

/** What the entrypoint of the image `postgres` does, for an image that has nothing but Debian's packages. */
const startPostgres = `
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth=trust --username=postgres --data-checksums --locale=C --pgdata="$PGDATA" >/dev/null
chmod 0700 "$PGDATA"
exec postgres -D "$PGDATA" -k /tmp -c listen_addresses=127.0.0.1 -c shared_buffers=16MB
`;

interface Container {
  image: string;
  command?: string[];
  env?: object[];
  volumeMounts: object[];
}
interface PodSpec {
  securityContext?: object;
  nodeName?: string;
  containers: Container[];
  volumes?: object[];
}

/**
 * The objects of a file of examples/, changed as little as this cluster needs: images of this machine's Debian packages,
 * small volumes, a folder instead of an object store, and the CronJob of Kubernetes 1.20.
 */
export async function exampleFor(path: string): Promise<string> {
  const text = await readFile(join(projectDirectory, 'examples', path), 'utf8');
  return parseManifests(text)
    .map(adapt)
    .map((manifest) => stringify(manifest))
    .join('---\n');
}

/** Puts every object of a YAML text into a namespace. */
export function namespaced(namespace: string, text: string): string {
  const items = parseManifests(text).map((manifest) => ({
    ...manifest,
    metadata: { ...manifest.metadata, namespace },
  }));
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

function adapt(manifest: Manifest): Manifest {
  const adapted = structuredClone(manifest);
  for (const path of podSpecs) {
    const pod = at<PodSpec | undefined>(adapted, path);
    if (pod !== undefined) adaptPod(pod);
  }
  for (const path of ['spec', 'spec.volumeClaimTemplates.0.spec']) {
    const requests = at<{ storage?: string } | undefined>(adapted, `${path}.resources.requests`);
    if (requests?.storage !== undefined) requests.storage = volumeSize;
  }
  if (adapted.kind === 'CronJob') return { ...adapted, apiVersion: 'batch/v1beta1' };
  if (adapted.metadata.name === 'backup-target') {
    const stringData = { RESTIC_REPOSITORY: '/repository', RESTIC_PASSWORD: 'cluster-lane' };
    return { ...adapted, stringData } as Manifest;
  }
  return adapted;
}

function adaptPod(pod: PodSpec): void {
  for (const container of pod.containers) {
    if (container.image.startsWith('postgres:')) {
      container.command = ['/bin/sh', '-ec', startPostgres];
      container.env = [...(container.env ?? []), { name: 'PGHOST', value: '127.0.0.1' }];
      // The entrypoint changes to this user.
      pod.securityContext = { ...pod.securityContext, runAsUser: 999, runAsGroup: 999 };
    }
    if (container.image.startsWith('restic/')) {
      container.volumeMounts.push({ name: 'repository', mountPath: '/repository' });
      pod.volumes = [
        ...(pod.volumes ?? []),
        { name: 'repository', hostPath: { path: repositoryFolder, type: 'Directory' } },
      ];
    }
    container.image = workloadImage;
  }
}
