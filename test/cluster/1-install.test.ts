import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { installChart, kubectlIn, namespace, nodes, rolledOut } from './support/understudy.ts';

const cluster = inject('cluster');

test.skipIf('unavailable' in cluster && !cluster.isFailure)('two nodes and the images for them are there', () => {
  if ('unavailable' in cluster) throw new Error(cluster.unavailable);
});

describe.skipIf('unavailable' in cluster)('the chart, on a cluster of two nodes', () => {
  let kubectl: Kubectl;

  beforeAll(async () => {
    if ('unavailable' in cluster) return;
    kubectl = kubectlIn(cluster);
    await installChart(kubectl);
  });

  test('starts operators on different nodes', async () => {
    await rolledOut(kubectl, namespace, 'deployment/understudy-operator');
    const hosts = await kubectl.run([
      ...['get', 'pods', '-n', namespace, '-l', 'app.kubernetes.io/component=operator'],
      ...['-o', 'jsonpath={.items[*].spec.nodeName}'],
    ]);
    expect(hosts.split(' ').sort()).toEqual(nodes);
  });

  test('starts an agent on every node', async () => {
    await rolledOut(kubectl, namespace, 'daemonset/understudy-agent');
    const agents = await kubectl.run([
      'get',
      'daemonset',
      '-n',
      namespace,
      'understudy-agent',
      '-o',
      'jsonpath={.status.numberReady}',
    ]);
    expect(agents).toBe('2');
  });

  test('registers the CSI driver at every kubelet', async () => {
    for (const node of nodes) {
      const drivers = await kubectl.run(['get', 'csinode', node, '-o', 'jsonpath={.spec.drivers[*].name}']);
      expect(drivers.split(' ')).toContain('csi.understudy.dev');
    }
  });
});
