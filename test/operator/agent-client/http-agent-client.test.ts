import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { createApi } from '../../../agent/api/server.ts';
import type { MountService } from '../../../agent/volume/mount-service.ts';
import type { VolumeService } from '../../../agent/volume/volume-service.ts';
import { systemClock } from '../../../common/clock.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { HttpAgentClient } from '../../../operator/agent-client/http-agent-client.ts';
import { TestAuthority } from '../../support/certificates.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { type SimulatedAgent, SimulatedCluster } from '../../support/simulated-agent.ts';
import { waitFor } from '../../support/wait-for.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** The volumes of a simulated agent behind the HTTP API of the real one. */
function serviceOf(agent: SimulatedAgent): VolumeService {
  const missing = (what: string) => new UnderstudyError('NotFound', `no ${what} on this node`);
  return {
    list: () => agent.listVolumes(),
    get: async (name) => (await agent.getVolume(name)) ?? Promise.reject(missing(name)),
    put: async (name, spec) => ({ created: !agent.volumes.has(name), view: await agent.putVolume(name, spec) }),
    delete: (name) => agent.deleteVolume(name),
    prepare: (name, epoch) => agent.prepare(name, epoch),
    restore: (name, request) => agent.putRestore(name, request),
    giveUpRestore: (name) => agent.giveUpRestore(name),
    verify: async () => Promise.reject(missing('verification')),
    stopVerification: async () => undefined,
    holdAcknowledgements: (name, attempt) => agent.holdAcknowledgements(name, attempt),
    releaseAcknowledgements: (name, attempt) => agent.releaseAcknowledgements(name, attempt),
    putSnapshot: (name, snapshot, request) => agent.putSnapshot(name, snapshot, request),
    getSnapshot: async (name, snapshot) =>
      (await agent.getSnapshot(name, snapshot)) ?? Promise.reject(missing(snapshot)),
    holdSnapshot: (name, snapshot, hold) => agent.putHold(name, snapshot, hold),
    releaseSnapshot: (name, snapshot, hold) => agent.deleteHold(name, snapshot, hold),
    deleteSnapshot: (name, snapshot) => agent.deleteSnapshot(name, snapshot),
  };
}

const noMounts: MountService = {
  list: async () => [],
  mountVolume: () => Promise.reject(new UnderstudyError('Invalid', 'not here')),
  mountSnapshot: () => Promise.reject(new UnderstudyError('Invalid', 'not here')),
  unmount: async () => {},
};

const node = { node: 'node-a', mirrorAddress: '10.20.0.7:7072' };

async function realApi() {
  const cluster = new SimulatedCluster({ 'node-a': ['main', 'buffer'] });
  const agent = cluster.agent('node-a');
  const volumes = serviceOf(agent);
  const app = await createApi({ node, volumes, mounts: noMounts, version: '0', tls: undefined, log: silentLog });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  cleanups.push(() => app.close());
  return { agent, client: new HttpAgentClient({ node: 'node-a', url }) };
}

async function serverThat(answers: RequestListener): Promise<{ server: Server; url: string }> {
  const server = createServer(answers);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

const spec = {
  size: 2 ** 20,
  pool: 'main',
  role: 'primary',
  epoch: 1,
  uid: 'u',
  buffer: { pool: 'buffer', capacity: 2 ** 20 },
} as const;

test('everything the operator asks passes through the real API', async () => {
  const { client } = await realApi();
  expect(await client.getVolume('v')).toBeUndefined();
  expect(await client.putVolume('v', spec)).toMatchObject({ volume: 'v', role: 'primary', epoch: 1, size: 2 ** 20 });
  expect(await client.listVolumes()).toHaveLength(1);
  expect(await client.putSnapshot('v', 's', {})).toMatchObject({ name: 's', state: 'Ready' });
  expect(await client.getSnapshot('v', 's')).toMatchObject({ consistency: 'crash' });
  await client.deleteSnapshot('v', 's');
  expect(await client.getSnapshot('v', 's')).toBeUndefined();
  await client.putVolume('w', { ...spec, role: 'standby' });
  expect(await client.prepare('w', 2)).toMatchObject({ epoch: 2, clean: true });
  await client.deleteVolume('v');
  await client.deleteVolume('v');
  expect(await client.getVolume('v')).toBeUndefined();
});

test('a refusal comes with the code and the words of the agent', async () => {
  const { client, agent } = await realApi();
  await client.putVolume('v', spec);
  agent.volume('v').attached = true;
  await expect(client.deleteVolume('v')).rejects.toMatchObject({
    code: 'InUse',
    message: expect.stringContaining('is used by clients'),
    labels: { node: 'node-a', status: 409 },
  });
  await expect(client.putVolume('v', { ...spec, epoch: 0 })).rejects.toMatchObject({
    code: 'Invalid',
    message: /epoch/,
  });
  await expect(client.putVolume('x', { ...spec, pool: 'none' })).rejects.toMatchObject({ code: 'NotFound' });
});

test('an agent that cannot be reached is Unavailable, without a status', async () => {
  const { server, url } = await serverThat(() => {});
  server.close();
  const failure = await new HttpAgentClient({ node: 'node-a', url }).listVolumes().catch((error: unknown) => error);
  expect(failure).toMatchObject({
    code: 'Unavailable',
    message: expect.stringContaining('the agent of node-a at http://127'),
  });
  expect(failure).not.toMatchObject({ labels: { status: expect.anything() } });
});

test('an agent that does not answer is a Timeout', async () => {
  const clock = new ManualClock();
  let asked = false;
  const { url } = await serverThat(() => {
    asked = true;
  });
  const answer = new HttpAgentClient({ node: 'node-a', url, clock, readTimeoutMs: 5000 }).getVolume('v');
  await waitFor(() => asked, { timeoutMs: 5000 });
  clock.advance(5000);
  await expect(answer).rejects.toMatchObject({ code: 'Timeout', message: expect.stringContaining('within 5000 ms') });
});

test.each([
  ['no JSON', 200, '<html>', 'Protocol'],
  ['another shape', 200, '[{"volume":"v"}]', 'Protocol'],
  ['a failure without a reason', 500, 'oops', 'Unavailable'],
  ['a 404 of somebody else', 404, '<html>not found</html>', 'Protocol'],
])('an answer that is %s is not believed', async (_, status, text, code) => {
  const { url } = await serverThat((_request, response) => response.writeHead(status).end(text));
  const client = new HttpAgentClient({ node: 'node-a', url, clock: systemClock });
  await expect(client.listVolumes()).rejects.toMatchObject({ code });
});

test('over TLS, an agent is believed only with the certificate of its node', async () => {
  const authority = await TestAuthority.create();
  cleanups.push(() => authority.remove());
  const { agent } = await realApi();
  const certificate = await authority.issue({ role: 'node', name: 'node-a' });
  const tls = { ca: authority.ca, ...certificate };
  const app = await createApi({ node, volumes: serviceOf(agent), mounts: noMounts, version: '0', tls, log: silentLog });
  const url = (await app.listen({ host: '127.0.0.1', port: 0 })).replace('http:', 'https:');
  cleanups.push(() => app.close());
  const mine = { ca: authority.ca, ...(await authority.issue({ role: 'operator', name: 'operator' })) };
  expect(await new HttpAgentClient({ node: 'node-a', url, tls: mine }).listVolumes()).toEqual([]);
  await expect(new HttpAgentClient({ node: 'node-b', url, tls: mine }).listVolumes()).rejects.toMatchObject({
    code: 'Unavailable',
    message: 'expected the certificate of node node-b, got one of node node-a',
  });
});
