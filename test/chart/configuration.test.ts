import { describe, expect, test } from 'vitest';
import { agentConfigSchema } from '../../agent/config.ts';
import { parseConfig } from '../../common/config.ts';
import { operatorConfigSchema } from '../../operator/config.ts';
import { at, type Manifest, pick, renderManifests } from './support/helm.ts';
import { valueSets } from './support/value-sets.ts';

const nodeA = { NODE_NAME: 'node-a', HOST_IP: '10.0.0.7' };

/** What operator and agent make of the files that the chart gives them. */
function configurations(manifests: readonly Manifest[], environment = nodeA) {
  const text = (name: string, key: string): string =>
    at<Record<string, string>>(pick(manifests, 'ConfigMap', name), 'data')[key] ?? '';
  return {
    agent: parseConfig(text('understudy-agent', 'agent.yaml'), 'agent.yaml', agentConfigSchema, environment),
    operator: parseConfig(text('understudy-operator', 'operator.yaml'), 'operator.yaml', operatorConfigSchema),
  };
}

describe.each(Object.entries(valueSets))('with %s', (_name, values) => {
  test('agent and operator accept their configuration', async () => {
    const manifests = await renderManifests(values);
    const isIpv6 = at(values, 'agent.ipFamily') === 'IPv6';
    expect(() => configurations(manifests, isIpv6 ? { ...nodeA, HOST_IP: 'fd00::7' } : nodeA)).not.toThrow();
  });
});

test('pools are known to the agents that have them', async () => {
  const values = valueSets['node pools, devices, and pools elsewhere'];
  const manifests = await renderManifests(values);
  const poolsOf = (node: string) =>
    configurations(manifests, { ...nodeA, NODE_NAME: node }).agent.pools.map(({ name }) => name);
  expect(poolsOf('node-a')).toEqual(['main', 'buffer']);
  expect(poolsOf('node-b')).toEqual(['main', 'buffer', 'fast']);
  expect(poolsOf('node-c')).toEqual(['main']);
});
