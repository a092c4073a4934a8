import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Snapshot } from '../../operator/resources/snapshot.ts';
import { type Manifest, parseManifests, pick } from '../chart/support/helm.ts';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { rigOf } from './support/cluster.ts';
import { apply, explainPods, kubectlIn, rolledOut, waitsFor } from './support/understudy.ts';
import { exampleFor, namespaced, repositoryFolder } from './support/workload.ts';

const run = promisify(execFile);
const cluster = inject('cluster');
const namespace = 'databases';

interface StatefulSetSpec {
  readonly volumeClaimTemplates?: unknown;
  readonly template: { readonly spec: object };
}

/** A chapter: each test goes on where the one before it ended. */
describe.skipIf('unavailable' in cluster)('a database on a mirrored volume, its backup and its restore', () => {
  let kubectl: Kubectl;
  const inNamespace = ['-n', namespace];

  beforeAll(async () => {
    if ('unavailable' in cluster) return;
    kubectl = kubectlIn(cluster);
    await kubectl.run(['create', 'namespace', namespace]);
    const rig = rigOf(cluster.state);
    for (const node of ['1', '2']) {
      await rig('node-exec', node, 'install', '-d', '-o', '999', '-g', '999', repositoryFolder);
    }
  });

  const sql = (pod: string, statement: string) =>
    kubectl.run(['exec', ...inNamespace, pod, '--', 'psql', '-U', 'postgres', '-qtAc', statement]);

  async function finishes(job: string): Promise<void> {
    const done = await kubectl.try([
      'wait',
      ...inNamespace,
      '--for=condition=complete',
      '--timeout=120s',
      `job/${job}`,
    ]);
    if (done.status !== 0) throw new Error(`${job}: ${done.stderr}\n${await explainPods(kubectl, namespace)}`);
  }

  test('a StatefulSet gets a volume, provisioned where its pod is to run, and a mirror of it', async () => {
    await apply(kubectl, namespaced(namespace, await exampleFor('statefulset-postgresql/postgresql.yaml')));
    await rolledOut(kubectl, namespace, 'statefulset/postgresql');
    await waitsFor(kubectl, ['--for=condition=InSync', 'standbymirror/data-postgresql-0-standby', ...inNamespace]);
    const nodeOf = async (what: string, path: string) =>
      kubectl.run(['get', ...inNamespace, what, '-o', `jsonpath={${path}}`]);
    const primary = await nodeOf('primaryvolume/data-postgresql-0', '.status.node');
    expect(await nodeOf('pod/postgresql-0', '.spec.nodeName')).toBe(primary);
    expect(await nodeOf('standbymirror/data-postgresql-0-standby', '.status.node')).not.toBe(primary);
  });

  test.each(['checkpointed', 'backup-mode'])('a snapshot with hooks in the database: %s', async (name) => {
    const file = name === 'checkpointed' ? 'checkpoint' : name;
    const snapshot = `snapshot.understudy.dev/postgresql-${name}`;
    await apply(kubectl, namespaced(namespace, await exampleFor(`hooks/postgresql-${file}.yaml`)));
    await waitsFor(kubectl, ['--for=condition=Ready', snapshot, ...inNamespace]);
    const { status } = JSON.parse(await kubectl.run(['get', ...inNamespace, snapshot, '-o', 'json'])) as Snapshot;
    console.log(`${name}: the database was held for ${status?.hooks?.heldMilliseconds} ms`);
    expect(status).toMatchObject({ consistency: 'application', hooks: { attempts: 1 } });
    expect(status?.hooks?.started).toEqual(['pre[0] in postgresql-0/postgresql']);
    // In backup mode a session would still be there.
    const held = "select count(*) from pg_stat_activity where query ~ 'pg_backup_start' and pid <> pg_backend_pid()";
    expect((await sql('postgresql-0', held)).trim()).toBe('0');
    await kubectl.run(['delete', ...inNamespace, snapshot]);
  });

  test('a backup of the newest snapshot is made by a pod without privileges, on the standby', async () => {
    await sql('postgresql-0', 'create table seats as select generate_series(1, 1000) as seat');
    await apply(kubectl, namespaced(namespace, await exampleFor('backup-cronjob/snapshot.yaml')));
    await waitsFor(kubectl, ['--for=condition=Ready', 'snapshot.understudy.dev/nightly', ...inNamespace]);
    await sql('postgresql-0', 'insert into seats select generate_series(1001, 1500)');

    await apply(kubectl, namespaced(namespace, await exampleFor('backup-cronjob/backup.yaml')));
    await kubectl.run(['create', 'job', ...inNamespace, '--from=cronjob/backup', 'backup-now']);
    await finishes('backup-now');
    const where = await kubectl.run([
      'get',
      'pods',
      ...inNamespace,
      '-l',
      'job-name=backup-now',
      '-o',
      'jsonpath={.items[0].spec.nodeName}',
    ]);
    const standby = await kubectl.run([
      'get',
      ...inNamespace,
      'standbymirror/data-postgresql-0-standby',
      '-o',
      'jsonpath={.status.node}',
    ]);
    expect(where).toBe(standby);
  });

  test('what comes back is the database at the moment of the snapshot', async () => {
    await keepRepositoryTogether();
    await apply(kubectl, namespaced(namespace, await exampleFor('backup-cronjob/restore.yaml')));
    await finishes('restore');
    await apply(kubectl, namespaced(namespace, await restoredDatabase()));
    await rolledOut(kubectl, namespace, 'statefulset/restored');
    expect((await sql('restored-0', 'select count(*), max(seat) from seats')).trim()).toBe('1000|1000');
    expect((await sql('postgresql-0', 'select count(*) from seats')).trim()).toBe('1500');
  });

  /** The store of the backups is a folder of each node, and the restore may run on the other one. */
  async function keepRepositoryTogether(): Promise<void> {
    if ('unavailable' in cluster) return;
    const folder = (node: number) => `${cluster.state}/nodes/${node}/disk${repositoryFolder}`;
    for (const [from, to] of [
      [1, 2],
      [2, 1],
    ] as const) {
      await run('cp', ['-a', '-n', `${folder(from)}/.`, folder(to)]);
    }
  }

  /** The example's database, on the claim that was restored into. */
  async function restoredDatabase(): Promise<string> {
    const manifests = parseManifests(await exampleFor('statefulset-postgresql/postgresql.yaml'));
    const { spec, ...set } = pick(manifests, 'StatefulSet') as Manifest & { spec: StatefulSetSpec };
    const labels = { app: 'restored' };
    const volumes = [{ name: 'data', persistentVolumeClaim: { claimName: 'restored' } }];
    const template = { metadata: { labels }, spec: { ...spec.template.spec, volumes } };
    const { volumeClaimTemplates: _, ...rest } = spec;
    return JSON.stringify({
      ...set,
      metadata: { name: 'restored' },
      spec: { ...rest, serviceName: 'restored', selector: { matchLabels: labels }, template },
    });
  }
});
