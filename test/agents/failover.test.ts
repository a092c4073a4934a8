import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import { staticAgentDirectory } from '../../operator/agent-client/agent-client.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { findCondition } from '../../operator/resources/conditions.ts';
import { type PrimaryVolume, primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { mirror, pool, volume } from '../kubernetes/support/manifests.ts';
import { KubeApiServer } from '../support/kube-api-server.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { RecordingWriter } from '../support/recording-writer.ts';
import { waitFor } from '../support/wait-for.ts';

const key = { namespace: 'default', name: 'data' };
const patienceMs = 90_000;

let api: InMemoryKubeApi;
let server: KubeApiServer;
let agents: Record<string, AgentProcess>;
let operator: Operator;
const clients: NbdTestClient[] = [];

/** Real agents, with an API in memory as their arbiter and the operator in this process. */
beforeEach(async () => {
  api = new InMemoryKubeApi();
  server = await KubeApiServer.start(api);
  const started = await Promise.all(
    ['node-a', 'node-b'].map((node) =>
      startAgent(node, 'none', (directory) => {
        const kubeconfig = join(directory, 'kubeconfig');
        writeFileSync(kubeconfig, server.kubeconfig());
        return { arbiter: 'kubernetes', kubernetes: { kubeconfig } };
      }),
    ),
  );
  agents = Object.fromEntries(started.map((agent) => [agent.node, agent]));
  operator = startOperator({
    api,
    log: silentLog,
    intervals: { transitionalMs: 200, idleMs: 500 },
    agents: staticAgentDirectory(
      started.map(({ node, apiAddress, mirrorAddress }) => ({
        node,
        mirrorAddress,
        client: new HttpAgentClient({ node, url: `http://${apiAddress}`, readTimeoutMs: 2_000 }),
      })),
    ),
  });
  const pools = started.flatMap(({ node, pools: of }) =>
    Object.entries(of).map(([name, directory]) => pool(node, name, directory)),
  );
  const failover = { policy: 'Automatic', after: '2s' };
  const objects = [...pools, volume('default', 'data'), mirror('default', 'standby', 'data', { failover })];
  await applyManifest(api, objects.map((each) => JSON.stringify(each)).join('\n---\n'));
  await inSync('standby');
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await operator.stop();
  await Promise.all(Object.values(agents).map((agent) => agent.remove()));
  await server.stop();
});

const agent = (node: string) => {
  const found = agents[node];
  if (found === undefined) throw new Error(`no ${node}`);
  return found;
};

async function object(): Promise<PrimaryVolume> {
  const found = await api.get(primaryVolumes, key);
  if (found === undefined) throw new Error('the volume is gone');
  return found;
}

/** The record has the copy in sync in its own epoch. */
async function inSync(copy: string): Promise<void> {
  await waitFor(
    async () => {
      const record = (await object()).status?.arbiter;
      return record?.copies.some(
        ({ name, state, epoch }) => name === copy && state === 'InSync' && epoch === record.epoch,
      );
    },
    { timeoutMs: patienceMs, what: `copy ${copy} to be in sync` },
  );
}

async function primaryOn(node: string): Promise<void> {
  await waitFor(
    async () => {
      const { status } = await object();
      return status?.node === node && findCondition(status.conditions, 'Ready')?.status === 'True';
    },
    { timeoutMs: patienceMs, what: `a primary on ${node}` },
  );
}

async function connect(node: string): Promise<NbdTestClient> {
  const name = (await object()).status?.volume ?? '';
  const [view] = await agent(node).volumes();
  const client = await NbdTestClient.connect(view?.nbd ?? '', { exportName: name });
  clients.push(client);
  return client;
}

async function acknowledged(writer: RecordingWriter, more: number): Promise<void> {
  const wanted = writer.acknowledged + more;
  await waitFor(() => writer.acknowledged >= wanted || writer.failure, { timeoutMs: patienceMs });
  expect(writer.failure).toBeUndefined();
}

async function reversed(): Promise<void> {
  await waitFor(
    async () => {
      const found = await api.get(standbyMirrors, { ...key, name: 'standby' });
      return findCondition(found?.status?.conditions, 'Ready')?.reason === 'Reversed';
    },
    { timeoutMs: patienceMs, what: 'the mirror to go the other way' },
  );
}

test('the primary is killed: the standby takes over by itself with every acknowledged write; the old one returns; and back', async () => {
  const writer = new RecordingWriter(await connect('node-a'));
  writer.start();
  await acknowledged(writer, 200);
  await agent('node-a').kill();
  await writer.ended;
  await primaryOn('node-b');
  expect((await object()).status).toMatchObject({ epoch: 2, node: 'node-b' });
  const second = await connect('node-b');
  expect(await writer.missingOn(second)).toEqual([]);

  const successor = writer.continueOn(second);
  successor.start();
  await acknowledged(successor, 100);
  await agent('node-a').start();
  await inSync('origin');
  await reversed();
  await acknowledged(successor, 100);
  await expect(connect('node-a')).rejects.toThrow(/standby on this node/);

  await agent('node-b').kill();
  await successor.ended;
  await primaryOn('node-a');
  expect((await object()).status?.arbiter).toMatchObject({ epoch: 3, node: 'node-a', divergent: [] });
  expect(await successor.missingOn(await connect('node-a'))).toEqual([]);
});

test('the primary hangs longer than every timeout, and wakes: it acknowledges nothing that its successor does not have', async () => {
  const client = await connect('node-a');
  const writer = new RecordingWriter(client);
  writer.start();
  await acknowledged(writer, 100);
  agent('node-a').signal('SIGSTOP');
  await primaryOn('node-b');
  const second = await connect('node-b');
  // Before anything else is written there.
  const taken = await writer.contentOf(second);
  const successor = writer.continueOn(second);
  successor.start();
  await acknowledged(successor, 50);

  agent('node-a').signal('SIGCONT');
  await writer.ended;
  expect(writer.failure).toBeDefined();
  expect(writer.missingIn(taken)).toEqual([]);
  client.close();
  await inSync('origin');
  await acknowledged(successor, 50);
  expect(await successor.missingOn(second)).toEqual([]);
});

/** A snapshot on the standby, and a client that reads it there. */
async function backup(): Promise<NbdTestClient> {
  const name = (await object()).status?.volume ?? '';
  const taken = await fetch(`http://${agent('node-a').apiAddress}/v1/volumes/${name}/snapshots/s`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ mirror: 'standby' }),
  });
  expect(taken.status).toBe(201);
  const [standby] = await agent('node-b').volumes();
  const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName: `${name}@s` });
  clients.push(reader);
  return reader;
}

test('a backup that reads a snapshot on the standby goes on while that becomes the primary', async () => {
  const writer = new RecordingWriter(await connect('node-a'));
  writer.start();
  await acknowledged(writer, 20);
  const reader = await backup();
  const before = await reader.read(0, 1024 * 1024);
  await acknowledged(writer, 20);
  await agent('node-a').kill();
  await writer.ended;
  await primaryOn('node-b');
  const successor = writer.continueOn(await connect('node-b'));
  successor.start();
  await acknowledged(successor, 50);
  expect((await reader.read(0, 1024 * 1024)).equals(before)).toBe(true);
  await successor.stop();
});

test('with duringBackup Abort the backup ends when the standby becomes the primary', async () => {
  const failover = { policy: 'Automatic', after: '2s', duringBackup: 'Abort' };
  await api.patch(standbyMirrors, { ...key, name: 'standby' }, { spec: { failover } });
  const reader = await backup();
  await reader.read(0, 4096);
  await agent('node-a').kill();
  await primaryOn('node-b');
  await waitFor(() => reader.channel.socket.destroyed, { timeoutMs: patienceMs, what: 'the connection to be closed' });
});

test('the arbiter is away when the standby is lost: writes wait, and go on with its grant', async () => {
  const writer = new RecordingWriter(await connect('node-a'));
  writer.start();
  await acknowledged(writer, 50);
  server.disturb = () => 'cut';
  await agent('node-b').kill();
  await waitFor(async () => (await agent('node-a').volumes())[0]?.state === 'Suspended', { timeoutMs: patienceMs });
  const before = writer.acknowledged;
  server.disturb = () => 'pass';
  await acknowledged(writer, 50);
  expect(writer.acknowledged).toBeGreaterThan(before);
  const record = (await object()).status?.arbiter;
  expect(record?.copies).toEqual([{ name: 'standby', state: 'Outdated', epoch: 1 }]);
  await agent('node-b').start();
  await inSync('standby');
  await writer.stop();
});
