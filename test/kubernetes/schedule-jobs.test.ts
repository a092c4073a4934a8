import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { type AgentPod, agentPods } from '../../operator/resources/platform-kinds.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { type SnapshotSchedule, snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { waitFor } from '../support/wait-for.ts';
import { type ChartAccount, chartAccount } from './support/chart-account.ts';
import { kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { mirror, schedule, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');
/** It binds claims, makes the pods of Jobs, and deletes what belongs to something that is gone. */
const canRunJobs = !('unavailable' in plane) && plane.hasControllerManager;
const wait = { timeoutMs: 90_000, intervalMs: 100 };

const container = {
  name: 'backup',
  image: 'local/none:1',
  volumeMounts: [{ name: 'snapshot', mountPath: '/data', readOnly: true }],
};
const template = {
  metadata: { labels: { app: 'backup' } },
  spec: { backoffLimit: 0, template: { spec: { restartPolicy: 'Never', containers: [container] } } },
};

/** The test does what a kubelet would: it says how the pods of the Jobs have ended. */
describe.skipIf(!canRunJobs)('the Jobs of SnapshotSchedules, with the rights that the chart grants', () => {
  let rig: Rig;
  let account: ChartAccount;
  let namespace: string;

  beforeAll(async () => {
    const cluster = sharedControlPlane();
    account = await chartAccount(cluster.kubeconfig, kubectlOf(cluster), { operator: { jobs: false } });
    rig = await startRig(cluster, [], { operatorKubeconfig: account.kubeconfig });
    namespace = await rig.namespace();
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data'));
    await rig.reaches(standbyMirrors, namespace, 'copy', { type: 'InSync', status: 'True' });
    const job = { onSuccess: 'Release', template };
    await rig.apply(...['done', 'failing'].map((name) => schedule(namespace, name, 'copy', { job })));
  });

  afterAll(async () => {
    await rig?.remove();
    await account?.remove();
  });

  const says = (name: string, status: 'True' | 'False' | 'Unknown', reason: string): Promise<SnapshotSchedule> =>
    rig.reaches(snapshotSchedules, namespace, name, { type: 'JobSucceeded', status, reason });
  const suspend = (name: string) =>
    rig.kubectl.run([
      ...['patch', '-n', namespace, 'snapshotschedule', name],
      ...['--type=merge', '-p', '{"spec":{"suspend":true}}'],
    ]);
  const podOf = (job: string): Promise<AgentPod> =>
    waitFor(async () => (await rig.api.list(agentPods, { namespace, labelSelector: `job-name=${job}` })).items[0], {
      ...wait,
      what: `a pod of Job ${job}`,
    });
  const ends = async (job: string, phase: 'Succeeded' | 'Failed') => {
    const { metadata } = await podOf(job);
    await rig.api.patch(
      agentPods,
      { namespace, name: metadata.name },
      { status: { phase } },
      { subresource: 'status' },
    );
  };
  const jobNames = async () =>
    (await rig.kubectl.run(['get', 'jobs', '-n', namespace, '-o', 'name'])).split('\n').filter((name) => name !== '');

  test('none is made without operator.jobs, and the schedule says so', async () => {
    const { status } = await says('done', 'Unknown', 'JobsNotSeen');
    const said = status?.conditions?.find(({ type }) => type === 'JobSucceeded')?.message;
    expect(said).toMatch(/jobs.batch is forbidden.*needs operator\.jobs of the chart/);
    await account.grant({ operator: { jobs: true } });
  });

  test('a snapshot is released when its Job has completed, and the Job goes with it; it is kept when that has failed', async () => {
    await says('done', 'Unknown', 'NotYet');
    const running = async (name: string) => {
      const found = await rig.api.get(snapshotSchedules, { namespace, name });
      const [entry] = found?.status?.history ?? [];
      return entry?.job?.outcome === 'Running' ? entry : undefined;
    };
    const names: Record<string, string> = {};
    for (const name of ['done', 'failing']) {
      const entry = await waitFor(() => running(name), { ...wait, what: `a Job of ${name}` });
      names[name] = entry.snapshot ?? '';
    }
    const { done = '', failing = '' } = names;
    const made = JSON.parse(await rig.kubectl.run(['get', '-n', namespace, 'job', done, '-o', 'json']));
    const snapshot = await rig.api.get(snapshots, { namespace, name: done });
    expect(made.metadata).toMatchObject({
      labels: { app: 'backup', 'understudy.dev/schedule': 'done' },
      ownerReferences: [{ kind: 'Snapshot', name: done, uid: snapshot?.metadata.uid, controller: true }],
    });
    const claim = {
      name: 'snapshot',
      persistentVolumeClaim: { claimName: snapshot?.status?.claimName, readOnly: true },
    };
    expect((await podOf(done)).spec).toMatchObject({ volumes: expect.arrayContaining([claim]) });

    await ends(done, 'Succeeded');
    expect((await says('done', 'True', 'Succeeded')).status?.history?.[0]?.job).toMatchObject({ outcome: 'Succeeded' });
    await rig.vanishes(snapshots, namespace, done);
    await suspend('done');
    await ends(failing, 'Failed');
    const { status } = await says('failing', 'False', 'Failed');
    expect(status?.history?.find(({ job }) => job?.outcome === 'Failed')?.job?.message).toMatch(/backoff/i);
    await suspend('failing');
    await rig.reaches(snapshots, namespace, failing, { type: 'Ready', status: 'True' });
    await waitFor(async () => !(await jobNames()).includes(`job.batch/${done}`), { ...wait, what: 'the Job to go' });
    expect(await jobNames()).toContain(`job.batch/${failing}`);
  });

  test('a Job goes with its snapshot', async () => {
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshots.understudy.dev', '--all']);
    await waitFor(async () => (await jobNames()).length === 0, { ...wait, what: 'the Jobs to go' });
    await rig.kubectl.run(['delete', '-n', namespace, 'snapshotschedules', '--all']);
  });
});
