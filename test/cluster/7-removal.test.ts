import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { waitFor } from '../support/wait-for.ts';
import { rigOf } from './support/cluster.ts';
import { chartManifests, kubectlIn, pools } from './support/understudy.ts';

const cluster = inject('cluster');

describe.skipIf('unavailable' in cluster)('when everything is deleted, nothing is left', () => {
  let kubectl: Kubectl;
  let state: string;

  beforeAll(() => {
    if ('unavailable' in cluster) return;
    kubectl = kubectlIn(cluster);
    state = cluster.state;
  });

  const names = async (...args: string[]) =>
    (await kubectl.run(['get', ...args, '-o', 'name'])).split('\n').filter((name) => name !== '');

  test('namespaces go, with volumes in use, mirrors, snapshots, claims and their finalizers', async () => {
    await kubectl.run(['delete', 'namespace', '--wait=false', 'databases', 'quickstart']);
    await waitFor(async () => !(await names('namespaces')).some((name) => /\/(databases|quickstart)$/.test(name)), {
      timeoutMs: 200_000,
      intervalMs: 500,
      what: 'the namespaces to be gone',
    }).catch(async (error: unknown) => {
      const left = await kubectl.try(['get', 'pods,pvc,pvol,smir,snapshots.understudy.dev', '-A', '-o', 'yaml']);
      throw new Error(`${String(error)}\n${left.stdout}`);
    });
    expect(await names('persistentvolumes')).toEqual([]);
  });

  test('the nodes have no label of ours any more', async () => {
    const labels = async () => await kubectl.run(['get', 'nodes', '-o', 'jsonpath={.items[*].metadata.labels}']);
    await waitFor(async () => !/(primary|standby)\.understudy\.dev/.test(await labels()), { timeoutMs: 30_000 });
  });

  test('the nodes have no mounts, loop devices or files of volumes any more', async () => {
    for (const node of [1, 2]) {
      const mounts = await rigOf(state)('node-exec', String(node), 'cat', '/proc/self/mountinfo');
      expect(
        mounts
          .split('\n')
          .filter((line) => /fuse\.nbdfuse|understudy\/attach|csi\.understudy\.dev.*globalmount/.test(line)),
      ).toEqual([]);
      for (const { directory } of pools) {
        expect(await filesBelow(join(state, 'nodes', String(node), 'disk', directory))).toEqual([]);
      }
    }
    expect(await loopDevicesOf('/var/lib/understudy')).toEqual([]);
  });

  test('pools and the chart go', async () => {
    await kubectl.run(['delete', 'nodepools', '--all', '--timeout=60s']);
    await kubectl.run(['delete', '--ignore-not-found', '--timeout=120s', '-f', '-'], await chartManifests());
    await kubectl.run(['delete', 'namespace', '--timeout=120s', 'understudy']);
    expect((await names('crd')).filter((name) => name.endsWith('.understudy.dev'))).toEqual([]);
    expect((await names('clusterrole,clusterrolebinding')).filter((name) => name.includes('understudy'))).toEqual([]);
  });
});

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
}

/** Loop devices belong to the whole machine; those of other agents on it are none of ours. */
async function loopDevicesOf(directory: string): Promise<string[]> {
  const devices = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'));
  const files = await Promise.all(
    devices.map((device) => readFile(`/sys/block/${device}/loop/backing_file`, 'utf8').catch(() => '')),
  );
  return files.map((file) => file.trim()).filter((file) => file.startsWith(directory));
}
