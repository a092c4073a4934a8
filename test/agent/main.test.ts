import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AgentConfig, agentConfigSchema } from '../../agent/config.ts';
import { type Agent, startAgent } from '../../agent/main.ts';
import { formatAddress } from '../../common/address.ts';
import { systemClock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import { TestAuthority } from '../support/certificates.ts';

const context = { version: '1.2.3', clock: systemClock, log: silentLog };

let directory: string;
const running = new Set<Agent>();

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-main-'));
});

afterEach(async () => {
  for (const agent of running) await agent.stop();
  running.clear();
  await rm(directory, { recursive: true });
});

function config(changes: Record<string, unknown> = {}): AgentConfig {
  return agentConfigSchema.parse({
    node: 'node-a',
    stateDirectory: join(directory, 'state'),
    pools: [{ name: 'main', directory: join(directory, 'main') }],
    api: { listen: '127.0.0.1:0' },
    mirror: { listen: '127.0.0.1:0' },
    nbd: { directory: join(directory, 'nbd') },
    attach: 'none',
    tls: { insecure: true },
    ...changes,
  });
}

async function start(changes: Record<string, unknown> = {}): Promise<Agent> {
  const agent = await startAgent(config(changes), context);
  running.add(agent);
  return agent;
}

async function stop(agent: Agent): Promise<void> {
  running.delete(agent);
  await agent.stop();
}

async function call(agent: Agent, method: string, path: string, body?: unknown) {
  const response = await fetch(`http://${formatAddress(agent.api)}${path}`, {
    method,
    ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  return { status: response.status, json: response.status === 204 ? undefined : await response.json() };
}

const spec = { size: '8Mi', pool: 'main', role: 'primary', epoch: 1 };

test('volumes are there again after a restart', async () => {
  const first = await start();
  expect(await call(first, 'PUT', '/v1/volumes/v1', spec)).toMatchObject({ status: 201, json: { state: 'Ready' } });
  await stop(first);
  const second = await start();
  expect(await call(second, 'GET', '/readyz')).toMatchObject({ status: 200 });
  expect(await call(second, 'GET', '/v1/volumes/v1')).toMatchObject({
    status: 200,
    json: { volume: 'v1', size: 8 * 1024 * 1024, epoch: 1, state: 'Ready', clean: true },
  });
  expect(await call(second, 'DELETE', '/v1/volumes/v1')).toMatchObject({ status: 204 });
});

test('errors of the parts reach the client as problems', async () => {
  const agent = await start();
  expect(await call(agent, 'PUT', '/v1/volumes/v1', { ...spec, pool: 'other' })).toMatchObject({
    status: 404,
    json: { code: 'NotFound' },
  });
  await call(agent, 'PUT', '/v1/volumes/v1', spec);
  expect(await call(agent, 'PUT', '/v1/volumes/v1/mounts/m', { target: join(directory, 'target') })).toMatchObject({
    json: { detail: expect.stringContaining('attach: none') },
  });
});

test('an agent that cannot start leaves nothing running', async () => {
  const blocker = await start();
  const changes = {
    stateDirectory: join(directory, 'state-b'),
    pools: [{ name: 'main', directory: join(directory, 'main-b') }],
    nbd: { directory: join(directory, 'nbd-b') },
  };
  await expect(
    startAgent(config({ ...changes, api: { listen: formatAddress(blocker.api) } }), context),
  ).rejects.toMatchObject({
    code: 'Unavailable',
    message: `cannot listen on ${formatAddress(blocker.api)} (api.listen)`,
  });
  const agent = await start(changes);
  expect(await call(agent, 'GET', '/v1/volumes')).toEqual({ status: 200, json: [] });
});

describe('with certificates', () => {
  test('the API is for the operator', async () => {
    const authority = await TestAuthority.create();
    try {
      const { cert, key } = await authority.issue({ role: 'node', name: 'node-a' });
      const operator = await authority.issue({ role: 'operator', name: 'operator' });
      const files = { ca: authority.ca, cert, key };
      for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
      const tls = { ca: join(directory, 'ca'), cert: join(directory, 'cert'), key: join(directory, 'key') };
      const agent = await start({ tls });
      const status = (client: object) =>
        new Promise((resolve, reject) => {
          const { host, port } = agent.api;
          request({ host, port, path: '/v1/volumes', ca: authority.ca, ...client, agent: false }, (response) => {
            json(response).then(() => resolve(response.statusCode), reject);
          })
            .on('error', reject)
            .end();
        });
      expect(await status(operator)).toBe(200);
      expect(await status({ cert, key })).toBe(403);
      expect(await status({})).toBe(401);
    } finally {
      await authority.remove();
    }
  });
});
