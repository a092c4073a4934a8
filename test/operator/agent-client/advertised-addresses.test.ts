import { afterEach, expect, test } from 'vitest';
import { silentLog } from '../../../common/log.ts';
import { parseNetwork } from '../../../common/network.ts';
import { AdvertisedAddresses } from '../../../operator/agent-client/advertised-addresses.ts';
import type { AgentClient } from '../../../operator/agent-client/agent-client.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { settle } from '../../support/settle.ts';
import { SimulatedCluster } from '../../support/simulated-agent.ts';

let stop: (() => void) | undefined;
afterEach(() => stop?.());

/** node-a says an address in the network, node-b one outside of it, node-c nothing. */
function followed() {
  const clock = new ManualClock();
  const cluster = new SimulatedCluster({ 'node-a': [], 'node-b': [], 'node-c': [] });
  const [a, b, c] = ['node-a', 'node-b', 'node-c'].map((node) => cluster.agent(node)) as [Agent, Agent, Agent];
  a.mirrorAddress = '10.20.0.1:7072';
  b.mirrorAddress = '10.0.0.2:7072';
  c.down = true;
  const agents: AgentClient[] = [a, b, c];
  const clients = () => new Map(agents.map((agent) => [(agent as Agent).node, agent]));
  const addresses = new AdvertisedAddresses({
    network: parseNetwork('10.20.0.0/16'),
    clients,
    clock,
    log: silentLog,
  });
  stop = () => addresses.stop();
  const pass = async (ms: number) => {
    await settle();
    clock.advance(ms);
    await settle();
  };
  return { addresses, a, b, c, pass };
}
type Agent = ReturnType<SimulatedCluster['agent']>;

test('an address is what its agent says, if it is in the network', async () => {
  const { addresses, pass } = followed();
  await pass(0);
  expect(['node-a', 'node-b', 'node-c', 'node-d'].map((node) => addresses.of(node))).toEqual([
    '10.20.0.1:7072',
    undefined,
    undefined,
    undefined,
  ]);
});

test('who was silent is asked again soon, and who said another address later', async () => {
  const { addresses, b, c, pass } = followed();
  await pass(0);
  b.mirrorAddress = '10.20.0.2:7072';
  c.mirrorAddress = '10.20.0.3:7072';
  c.down = false;
  await pass(1_000);
  expect([addresses.of('node-b'), addresses.of('node-c')]).toEqual([undefined, '10.20.0.3:7072']);
  for (let second = 0; second < 10; second += 1) await pass(1_000);
  expect(addresses.of('node-b')).toBe('10.20.0.2:7072');
});

test('what an agent said last counts while it is silent', async () => {
  const { addresses, a, pass } = followed();
  await pass(0);
  a.down = true;
  for (let second = 0; second < 30; second += 1) await pass(1_000);
  expect(addresses.of('node-a')).toBe('10.20.0.1:7072');
});
