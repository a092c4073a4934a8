import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inClusterAccess, kubeconfigAccess } from '../../../agent/arbiter/kube-access.ts';
import { KubernetesArbiter } from '../../../agent/arbiter/kubernetes-arbiter.ts';
import { silentLog } from '../../../common/log.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import { type PrimaryVolume, primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { KubeApiServer } from '../../support/kube-api-server.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const key = { namespace: 'default', name: 'data' };

let folder: string;
let api: InMemoryKubeApi;
let server: KubeApiServer;
let clock: ManualClock;
let arbiter: KubernetesArbiter;
let uid: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arbiter-'));
  api = new InMemoryKubeApi();
  server = await KubeApiServer.start(api);
  const created = await api.create(primaryVolumes, {
    apiVersion: 'understudy.dev/v1alpha1',
    kind: 'PrimaryVolume',
    metadata: key,
    spec: { size: '1Gi', nodeName: 'node-a' },
  } as unknown as PrimaryVolume);
  uid = created.metadata.uid;
  await setRecord({ revision: 1, epoch: 1, since: 1, node: 'node-a', copy: 'origin', copies: [], divergent: [] });
  const file = join(folder, 'kubeconfig');
  writeFileSync(file, server.kubeconfig());
  clock = new ManualClock();
  arbiter = new KubernetesArbiter({ node: 'node-a', access: kubeconfigAccess(file), clock, log: silentLog });
});
afterEach(async () => {
  arbiter.close();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function setRecord(record: object): Promise<void> {
  await api.patch(primaryVolumes, key, { status: { arbiter: record } }, { subresource: 'status' });
}

async function record() {
  return (await api.get(primaryVolumes, key))?.status?.arbiter;
}

function question(epoch = 1) {
  return { volume: `pv-${uid}`, uid, epoch, mirror: 'standby', key: 'default/data' };
}

describe('the record of a PrimaryVolume', () => {
  test('is marked by the primary of its epoch', async () => {
    expect(await arbiter.markInSync(question())).toBe('granted');
    expect(await record()).toMatchObject({ revision: 2, copies: [{ name: 'standby', state: 'InSync', epoch: 1 }] });
    expect(await arbiter.markOutdated(question())).toBe('granted');
    expect(await record()).toMatchObject({ revision: 3, copies: [{ name: 'standby', state: 'Outdated', epoch: 1 }] });
  });

  test('fences a primary whose successor it names', async () => {
    await setRecord({ epoch: 2, node: 'node-b' });
    expect(await arbiter.markOutdated(question())).toBe('refused');
  });

  test('cannot be reached: the answer is neither yes nor no', async () => {
    await server.stop();
    expect(await arbiter.markOutdated(question())).toBe('unreachable');
  });

  test('was swapped by someone else between reading and swapping: nothing is granted', async () => {
    let swapped = false;
    server.disturb = (when, { method }) => {
      if (when === 'after' && method === 'GET' && !swapped) {
        swapped = true;
        void setRecord({ revision: 9, epoch: 2, node: 'node-b' });
      }
      return 'pass';
    };
    expect(await arbiter.markOutdated(question())).toBe('unreachable');
    expect(await record()).toMatchObject({ revision: 9, copies: [] });
    expect(await arbiter.markOutdated(question())).toBe('refused');
  });

  test('was swapped, and the reply got lost: it is read back when asked again (rule 2)', async () => {
    server.disturb = (when, { method }) => (when === 'after' && method === 'PATCH' ? 'cut' : 'pass');
    expect(await arbiter.markInSync(question())).toBe('unreachable');
    expect(await record()).toMatchObject({ revision: 2 });
    server.disturb = () => 'pass';
    expect(await arbiter.markInSync(question())).toBe('granted');
    expect(await record()).toMatchObject({ revision: 3, copies: [{ state: 'InSync' }] });
  });

  test('answers too late: a swap that was given up on fails once another has been granted', async () => {
    let hung = false;
    server.disturb = (when, { method }) => {
      if (when === 'after' || method !== 'PATCH' || hung) return 'pass';
      hung = true;
      return 'hang';
    };
    const read = await api.get(primaryVolumes, key);
    const asking = arbiter.markInSync(question());
    await waitFor(() => hung, { timeoutMs: 5_000 });
    const late = {
      metadata: { resourceVersion: read?.metadata.resourceVersion },
      status: { arbiter: { revision: 2, copies: [{ name: 'standby', state: 'InSync', epoch: 1 }] } },
    };
    const answer = await advanceUntil(asking);
    expect(answer).toBe('unreachable');
    expect(await arbiter.markOutdated(question())).toBe('granted');
    const arriving = api.patch(primaryVolumes, key, late, { subresource: 'status' });
    await expect(arriving).rejects.toMatchObject({ code: 'Conflict' });
    expect(await record()).toMatchObject({ copies: [{ state: 'Outdated' }] });
  });
});

async function advanceUntil<T>(work: Promise<T>): Promise<T> {
  let done = false;
  void work.finally(() => {
    done = true;
  });
  await waitFor(
    () => {
      clock.advance(1_000);
      return done;
    },
    { timeoutMs: 10_000 },
  );
  return work;
}

describe('credentials', () => {
  test('are read again: a token that was renewed is the one that is sent', async () => {
    writeFileSync(join(folder, 'token'), 'first\n');
    writeFileSync(join(folder, 'ca.crt'), 'the authority');
    const access = inClusterAccess({ KUBERNETES_SERVICE_HOST: '10.0.0.1' }, folder);
    expect(await access()).toMatchObject({ server: 'https://10.0.0.1:443', token: 'first', ca: 'the authority' });
    writeFileSync(join(folder, 'token'), 'second');
    expect((await access()).token).toBe('second');
  });

  test('of a kubeconfig are files beside it, or in it', async () => {
    writeFileSync(join(folder, 'cert.pem'), 'a certificate');
    const user = { 'client-certificate': 'cert.pem', 'client-key-data': Buffer.from('a key').toString('base64') };
    const file = kubeconfig({ server: 'https://10.0.0.1/' }, user);
    expect(await kubeconfigAccess(file)()).toMatchObject({
      server: 'https://10.0.0.1',
      cert: 'a certificate',
      key: 'a key',
    });
  });

  test.each([
    ['a program to ask', { server: 'https://10.0.0.1' }, { exec: {} }, /expected a token or a client certificate/],
    ['clear text over the network', { server: 'http://10.0.0.1' }, { token: 't' }, /server must be https/],
  ])('of a kind that is not understood are refused: %s', async (_, cluster, user, message) => {
    await expect(kubeconfigAccess(kubeconfig(cluster, user))()).rejects.toThrow(message);
  });

  test('of a pod are missing outside of one', () => {
    expect(() => inClusterAccess({})).toThrow(/works in a pod only/);
  });

  function kubeconfig(cluster: object, user: object): string {
    const file = join(folder, 'config');
    const content = {
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    };
    writeFileSync(file, JSON.stringify(content));
    return file;
  }
});
