import { join } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { projectDirectory } from './support/project.ts';
import { kubectlIn, nodes, waitsFor } from './support/understudy.ts';

const cluster = inject('cluster');
const examples = join(projectDirectory, 'examples', 'quickstart');

describe.skipIf('unavailable' in cluster)('the quick start, on a cluster of two nodes', () => {
  let kubectl: Kubectl;

  beforeAll(async () => {
    if ('unavailable' in cluster) return;
    kubectl = kubectlIn(cluster);
    await kubectl.run(['create', 'namespace', 'quickstart']);
    await kubectl.run(['apply', '-n', 'quickstart', '-f', examples]);
  });

  test('the pools of both nodes become ready', async () => {
    await waitsFor(kubectl, ['--for=condition=Ready', 'nodepool', '--all']);
    const pools = await kubectl.run(['get', 'nodepools', '-o', 'jsonpath={.items[*].spec.node}']);
    expect(pools.split(' ').sort()).toEqual(nodes.flatMap((node) => [node, node]));
  });

  test('the mirror becomes in sync, and the snapshot ready', async () => {
    const inNamespace = ['-n', 'quickstart'];
    await waitsFor(kubectl, ['--for=condition=InSync', 'standbymirror/data-standby', ...inNamespace]);
    await waitsFor(kubectl, ['--for=condition=Protected', 'primaryvolume/data', ...inNamespace]);
    await waitsFor(kubectl, ['--for=condition=Ready', 'snapshot.understudy.dev/data-before-upgrade', ...inNamespace]);
  });
});
