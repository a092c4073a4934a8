import { describe, expect, test } from 'vitest';
import { agentConfigSchema } from '../../agent/config.ts';
import { mirrorAddress } from '../../agent/mirror-address.ts';
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

test.each([
  ['10.20.0.0/16', '10.20.3.7', '10.20.3.7:7072'],
  ['fd00:20::/64', 'fd00:20::7', '[fd00:20::7]:7072'],
])(
  'with a network for mirrors, %s, the agent is reached in it, and the operator knows that',
  async (network, address, expected) => {
    const { agent, operator } = configurations(await renderManifests({ agent: { mirrorNetwork: network } }));
    expect(mirrorAddress(agent.mirror, { eth0: [{ address: '10.0.0.7' }], storage: [{ address }] })).toBe(expected);
    expect(operator.agentPods?.mirrorNetwork?.contains(address)).toBe(true);
  },
);

test('without one, the agent is reached at the address of its node', async () => {
  const { agent, operator } = configurations(await renderManifests());
  expect(mirrorAddress(agent.mirror, {})).toBe('10.0.0.7:7072');
  expect(operator.agentPods?.mirrorNetwork).toBeUndefined();
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
