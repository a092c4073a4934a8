import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { waitFor } from '../support/wait-for.ts';
import { kubectlIn, namespace, rolledOut, waitsFor } from './support/understudy.ts';

const cluster = inject('cluster');

/** With the fuse driver, which does not keep volumes mounted over a restart: nobody uses them meanwhile. */
describe.skipIf('unavailable' in cluster)('restarts, with volumes, mirrors and snapshots there', () => {
  let kubectl: Kubectl;
  const databases = ['-n', 'databases'];

  beforeAll(() => {
    if (!('unavailable' in cluster)) kubectl = kubectlIn(cluster);
  });

  const leader = () =>
    kubectl.run(['get', 'lease', '-n', namespace, 'understudy-operator', '-o', 'jsonpath={.spec.holderIdentity}']);

  test('the databases end, and their volumes are let go', async () => {
    await kubectl.run(['scale', 'statefulset', ...databases, '--replicas=0', 'postgresql', 'restored']);
    await kubectl.run(['delete', 'jobs', ...databases, '--all']);
    await waitFor(async () => (await kubectl.run(['get', 'pods', ...databases, '-o', 'name'])).trim() === '', {
      timeoutMs: 120_000,
      intervalMs: 500,
      what: 'the pods to be gone',
    });
  });

  test('every agent is replaced, one after the other, and all mirrors are in sync again', async () => {
    await kubectl.run(['rollout', 'restart', '-n', namespace, 'daemonset/understudy-agent']);
    // On a busy machine the kubelet takes up to a minute to report that a pod is gone.
    await rolledOut(kubectl, namespace, 'daemonset/understudy-agent', '300s');
    for (const [mirror, inNamespace] of [
      ['data-standby', ['-n', 'quickstart']],
      ['data-postgresql-0-standby', databases],
    ] as const) {
      await waitsFor(kubectl, ['--for=condition=InSync', `standbymirror/${mirror}`, ...inNamespace]);
    }
  });

  test('another operator leads when the one that leads is gone', async () => {
    const before = await leader();
    const pod = before.replace(/_.*$/, '');
    const pods = await kubectl.run([
      'get',
      'pods',
      '-n',
      namespace,
      '-l',
      'app.kubernetes.io/component=operator',
      '-o',
      'name',
    ]);
    const leading = pods.split('\n').find((name) => before.includes(name.replace('pod/', ''))) ?? `pod/${pod}`;
    await kubectl.run(['delete', '-n', namespace, '--wait=false', leading]);
    await waitFor(async () => (await leader()) !== before, {
      timeoutMs: 60_000,
      intervalMs: 500,
      what: 'another leader',
    });
    await rolledOut(kubectl, namespace, 'deployment/understudy-operator');
  });

  test('the database is started again on what it had', async () => {
    await kubectl.run(['scale', 'statefulset', ...databases, '--replicas=1', 'postgresql']);
    await rolledOut(kubectl, 'databases', 'statefulset/postgresql');
    const count = ['psql', '-U', 'postgres', '-qtAc', 'select count(*) from seats'];
    expect((await kubectl.run(['exec', ...databases, 'postgresql-0', '--', ...count])).trim()).toBe('1500');
  });
});
