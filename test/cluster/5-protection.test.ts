import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { findCondition } from '../../operator/resources/conditions.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotGroups } from '../../operator/resources/snapshot-group.ts';
import { snapshotRestores } from '../../operator/resources/snapshot-restore.ts';
import { type JobOutcome, snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { parseManifests } from '../chart/support/helm.ts';
import { kubeApiOf } from '../kubernetes/support/kube-api-of.ts';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { manifest, mirror, snapshot, volume } from '../kubernetes/support/manifests.ts';
import { waitFor } from '../support/wait-for.ts';
import { reader, shop } from './support/shop.ts';
import { apply, explainPods, kubectlIn, nodes, rolledOut, waitsFor } from './support/understudy.ts';
import { exampleFor, namespaced, repositoryFolder } from './support/workload.ts';

const cluster = inject('cluster');
const namespace = 'quickstart';
const inNamespace = ['-n', namespace];
const usnap = (name: string) => `snapshot.understudy.dev/${name}`;
const file = 'orders/2026-11.csv';

/**
 * A chapter: the volume of the quick start gets an application, and beside it a second volume, and what protects them is used
 * as its documents say. The database of the chapters before is backed up by a schedule meanwhile.
 */
describe.skipIf('unavailable' in cluster)('snapshots, backups and restores of an application', () => {
  let kubectl: Kubectl;
  let api: KubeApi;
  let backupsBefore: number;

  beforeAll(async () => {
    if ('unavailable' in cluster) return;
    [kubectl, api] = [kubectlIn(cluster), kubeApiOf(cluster)];
    backupsBefore = await backups();
    await apply(kubectl, namespaced('databases', await eachMinute('schedule/backup.yaml')));
    const log = volume(namespace, 'log', { size: '64Mi' });
    await apply(
      kubectl,
      manifest(log, mirror(namespace, 'log-standby', 'log', { buffer: { pool: 'buffer', capacity: '64Mi' } })),
    );
    await apply(kubectl, namespaced(namespace, JSON.stringify(shop('data', 'log'))));
    await rolledOut(kubectl, namespace, 'deployment/shop');
    for (const name of ['data', 'log'])
      await waitsFor(kubectl, ['--for=condition=InSync', `standbymirror/${name}-standby`, ...inNamespace]);
  });

  const inShop = (script: string, input?: string) =>
    kubectl.run(['exec', ...inNamespace, '-i', 'deploy/shop', '--', 'sh', '-ec', script], input);
  const example = async (path: string) => apply(kubectl, namespaced(namespace, await exampleFor(path)));
  const ready = (what: string) => waitsFor(kubectl, ['--for=condition=Ready', what, ...inNamespace]);
  const statusOf = async (name: string) => (await api.get(snapshots, { namespace, name }))?.status;

  /** What a command prints in a pod that has these claims. */
  async function readIn(name: string, claims: readonly string[], command: string): Promise<string> {
    await apply(kubectl, namespaced(namespace, JSON.stringify(reader(name, claims, command))));
    const ended = async () => {
      const phase = await kubectl.run(['get', ...inNamespace, 'pod', name, '-o', 'jsonpath={.status.phase}']);
      return phase === 'Succeeded' || phase === 'Failed' ? phase : undefined;
    };
    const phase = await waitFor(ended, { timeoutMs: 120_000, intervalMs: 200 }).catch(() => 'not ended');
    if (phase !== 'Succeeded') throw new Error(`pod ${name} has ${phase}\n${await explainPods(kubectl, namespace)}`);
    const printed = await kubectl.run(['logs', ...inNamespace, name]);
    await kubectl.run(['delete', ...inNamespace, 'pod', name]);
    return printed;
  }

  test('a snapshot that waits for a lull and freezes the filesystem says what it has reached', async () => {
    await inShop(`mkdir -p /data/orders; echo november > /data/${file}`);
    const consistency = { lull: { quietFor: '300ms', timeout: '30s' }, freeze: { timeout: '5s' } };
    await apply(kubectl, manifest(snapshot(namespace, 'data-quiet', 'data-standby', { consistency })));
    await ready(usnap('data-quiet'));
    const status = await statusOf('data-quiet');
    console.log(`quiet: lull ${JSON.stringify(status?.lull)}, frozen for ${status?.frozenMilliseconds} ms`);
    expect(status).toMatchObject({ consistency: 'filesystem', lull: { found: true, bytesPerSecond: 0 } });
    expect(status?.frozenMilliseconds).toBeGreaterThan(0);
    // Nobody has synced the file; a filesystem that was frozen has it nevertheless.
    expect(await readIn('quiet', ['data-quiet'], `cat /data-quiet/${file}`)).toBe('november\n');
  });

  test('a file is brought back out of a snapshot, while the application goes on', async () => {
    await kubectl.run(['delete', ...inNamespace, usnap('data-before-upgrade')]);
    await example('quickstart/snapshot.yaml');
    await ready(usnap('data-before-upgrade'));
    await inShop(`echo upgraded > /data/${file}; mkdir -p /data/restored; sync`);
    await example('restore-files/job.yaml');
    await waitsFor(kubectl, ['--for=condition=ready', 'pod', '-l', 'job-name=restore-files', ...inNamespace]);
    const pack = ['exec', ...inNamespace, 'job/restore-files', '--', 'tar', '-C', '/snapshot', '-cf', '-', file];
    await inShop('tar -C /data/restored -xf -', await kubectl.run(pack));
    await kubectl.run(['delete', ...inNamespace, 'job', 'restore-files']);
    expect(await inShop(`cat /data/restored/${file} /data/${file}`)).toBe('november\nupgraded\n');
  });

  test('a group has both volumes at one moment, as an application that is at work sees them', async () => {
    const next = (folder: string) => `printf %010d $i | dd of=/${folder}/number conv=notrunc,fsync status=none`;
    const goesOn = inShop(
      `i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); ${next('data')}; ${next('log')}; done; echo $i`,
    );
    const written = async () => Number(await inShop('cat /log/number 2>/dev/null || echo 0'));
    await waitFor(async () => (await written()) > 10, { timeoutMs: 60_000, what: 'ten numbers' });
    await kubectl.run(['label', ...inNamespace, 'standbymirror/data-standby', 'standbymirror/log-standby', 'app=db']);
    await example('snapshot-group/group.yaml');
    for (const name of ['db-before-upgrade', 'db-nightly']) await ready(`snapshotgroup/${name}`);
    await inShop('touch /tmp/stop');
    const last = Number(await goesOn);
    for (const name of ['db-before-upgrade', 'db-nightly']) {
      const group = await api.get(snapshotGroups, { namespace, name });
      const members = (group?.status?.members ?? []).map((member) => member.snapshot);
      expect(members.sort()).toEqual([`${name}-data-standby`, `${name}-log-standby`]);
      for (const member of members) await waitsFor(kubectl, ['--for=condition=Claimed', usnap(member), ...inNamespace]);
      const printed = await readIn(
        `read-${name}`,
        members,
        members.map((each) => `cat /${each}/number; echo`).join('; '),
      );
      const [data = 0, log = 0] = printed.trim().split('\n').map(Number);
      console.log(`${name}: data ${data}, log ${log} of ${last}; held for ${group?.status?.heldMilliseconds} ms`);
      expect([0, 1]).toContain(data - log);
      expect(log).toBeGreaterThan(0);
      expect(data).toBeLessThanOrEqual(last);
    }
  });

  test('a new volume begins with what the snapshot has, and is filled', async () => {
    await example('restore/new-volume.yaml');
    await ready('primaryvolume/data-restored');
    expect(await readIn('look-again', ['data-restored'], `cat /data-restored/${file}`)).toBe('november\n');
    await ready('snapshotrestore/look-again');
    await waitsFor(kubectl, ['--for=condition=Filled', 'primaryvolume/data-restored', ...inNamespace]);
    expect(await inShop(`cat /data/${file}`)).toBe('upgraded\n');
  });

  test('the volume is put back in place, not before its application has ended; what was there is kept', async () => {
    await example('restore/restore.yaml');
    const reason = async () => {
      const restore = await api.get(snapshotRestores, { namespace, name: 'undo-upgrade' });
      return findCondition(restore?.status?.conditions, 'Ready')?.reason;
    };
    await waitFor(async () => (await reason()) === 'InUse', { timeoutMs: 60_000, what: 'the restore to wait' });
    expect(await inShop(`cat /data/${file}`)).toBe('upgraded\n');
    await kubectl.run(['scale', ...inNamespace, 'deployment/shop', '--replicas=0']);
    await ready('snapshotrestore/undo-upgrade');
    await kubectl.run(['scale', ...inNamespace, 'deployment/shop', '--replicas=1']);
    await rolledOut(kubectl, namespace, 'deployment/shop');
    expect(await inShop(`cat /data/${file}; ls /data`)).toBe('november\nlost+found\norders\n');
    const kept = 'before-restore-undo-upgrade';
    await ready(usnap(kept));
    await kubectl.run(['patch', ...inNamespace, usnap(kept), '--type=merge', '-p', '{"spec":{"claim":true}}']);
    expect(await readIn('undone', [kept], `cat /${kept}/${file}`)).toBe('upgraded\n');
    await kubectl.run(['delete', ...inNamespace, 'deployment/shop']);
  });

  test('a schedule has backed up the database meanwhile, and let go of the snapshot', async () => {
    let seen: readonly (JobOutcome | undefined)[] = [];
    const done = async () => {
      const schedule = await api.get(snapshotSchedules, { namespace: 'databases', name: 'backup' });
      seen = (schedule?.status?.history ?? []).map(({ job }) => job);
      return schedule?.status?.history?.find(({ job }) => job?.outcome === 'Succeeded');
    };
    const entry = await waitFor(done, { timeoutMs: 120_000, intervalMs: 200 }).catch(async () => {
      throw new Error(`no Job has succeeded: ${JSON.stringify(seen)}\n${await explainPods(kubectl, 'databases')}`);
    });
    await waitsFor(kubectl, ['--for=condition=JobSucceeded', 'snapshotschedule/backup', '-n', 'databases']);
    const gone = async () =>
      (await api.get(snapshots, { namespace: 'databases', name: entry.snapshot ?? '' })) === undefined;
    await waitFor(gone, { timeoutMs: 60_000, what: `Snapshot ${entry.snapshot} to be released` });
    // A schedule that is gone releases nothing any more.
    await kubectl.run(['delete', '-n', 'databases', 'snapshotschedule/backup']);
    expect(await backups()).toBeGreaterThan(backupsBefore);
  });

  /** Backups in the repository of the node on which they are made. */
  async function backups(): Promise<number> {
    if ('unavailable' in cluster) return 0;
    const standby = await api.get(standbyMirrors, { namespace: 'databases', name: 'data-postgresql-0-standby' });
    const number = (nodes as readonly string[]).indexOf(standby?.status?.node ?? '') + 1;
    return (await readdir(join(cluster.state, `nodes/${number}/disk${repositoryFolder}/snapshots`))).length;
  }

  /** An example of a schedule whose time comes soon. */
  async function eachMinute(path: string): Promise<string> {
    const [schedule] = parseManifests(await exampleFor(path)) as { spec?: object }[];
    return JSON.stringify({ ...schedule, spec: { ...schedule?.spec, cron: '* * * * *' } });
  }
});
