import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../common/clock.ts';
import { parseConfig } from '../../common/config.ts';
import { silentLog } from '../../common/log.ts';
import { operatorConfigSchema } from '../../operator/config.ts';
import { type RunningOperator, runOperator } from '../../operator/main.ts';
import { FakeApiServer, sendJson } from '../support/fake-api-server.ts';
import { waitFor } from '../support/wait-for.ts';

let directory: string;
let server: FakeApiServer;
let operator: RunningOperator | undefined;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'understudy-operator-'));
  server = await FakeApiServer.start();
});
afterEach(async () => {
  await operator?.stop();
  operator = undefined;
  await server.stop();
  await rm(directory, { recursive: true });
});

function config(yaml: string) {
  return parseConfig(yaml, 'operator.yaml', operatorConfigSchema);
}

async function start(yaml: string): Promise<void> {
  operator = await runOperator({ config: config(yaml), version: '1.2.3', clock: systemClock, log: silentLog });
}

async function get(route: string): Promise<{ status: number; text: string }> {
  const { health } = operator ?? {};
  const response = await fetch(`http://${health?.host}:${health?.port}${route}`);
  return { status: response.status, text: await response.text() };
}

async function writeKubeconfig(): Promise<string> {
  const file = path.join(directory, 'kubeconfig');
  await writeFile(file, server.kubeConfig().exportConfig());
  return file;
}

test('the operator is ready when it has read everything, and counts what it does', async () => {
  let open = false;
  server.answer = ({ url }, response) => {
    if (url.searchParams.has('watch')) response.writeHead(200).flushHeaders();
    else if (open) sendJson(response, { metadata: { resourceVersion: '1' }, items: [] });
    else response.writeHead(503).end();
  };
  await start(`kube: { kubeconfig: ${await writeKubeconfig()} }\nhealth: { listen: "127.0.0.1:0" }`);
  expect((await get('/healthz')).status).toBe(200);
  expect((await get('/readyz')).status).toBe(503);
  open = true;
  await waitFor(async () => (await get('/readyz')).status === 200, { timeoutMs: 10_000 });
  const { text } = await get('/metrics');
  expect(text).toMatch(/understudy_operator_watch_restarts_total\{kind="PrimaryVolume"\} [1-9]/);
});

test('it stops although the API server never answered', async () => {
  server.answer = () => {};
  await start(`kube: { kubeconfig: ${await writeKubeconfig()} }`);
  await waitFor(() => server.seen.length >= 4, { timeoutMs: 10_000 });
  await operator?.stop();
  operator = undefined;
});

test('a kubeconfig that cannot be used is named', async () => {
  await expect(start(`kube: { kubeconfig: ${directory}/none }`)).rejects.toMatchObject({
    code: 'Invalid',
    message: expect.stringContaining(`cannot read ${directory}/none (kube.kubeconfig)`),
  });
  await expect(start(`kube: { kubeconfig: ${await writeKubeconfig()}, context: other }`)).rejects.toThrow(
    'kube.context: expected one of fake, got "other"',
  );
  await expect(start('kube: { inCluster: true }')).rejects.toThrow('this process is not in a pod');
});

test.each([
  [
    'agents: [{ node: a, url: "ftp://x", mirrorAddress: "x:1" }]',
    'agents[0].url: expected an address such as https://',
  ],
  [
    'agents: [{ node: a, url: "http://10.0.0.1:7071", mirrorAddress: "x:1" }]',
    'agents[0].url: must be https, except for',
  ],
  [
    'agents: [{ node: a, url: "https://10.0.0.1:7071", mirrorAddress: "x:1" }]',
    'tls: missing: the agent of a is reached',
  ],
  [
    'agents: [{ node: a, url: "http://127.0.0.1:1", mirrorAddress: "x" }]',
    'agents[0].mirrorAddress: "x" is not an address',
  ],
  [
    'agents:\n- { node: a, url: "http://127.0.0.1:1", mirrorAddress: "x:1" }\n- { node: a, url: "http://[::1]:1", mirrorAddress: "x:1" }',
    'line 3: agents[1].node: a is there twice',
  ],
  ['health: { listen: "7073" }', 'health.listen: '],
  ['agent: []', 'unknown key "agent"; did you mean "agents"?'],
  ['kube: { inCluster: true, kubeconfig: x }', 'expected either inCluster or kubeconfig, got both'],
])('a configuration with a mistake is refused by line, key, expected and got: %s', (yaml, message) => {
  expect(() => config(yaml)).toThrow(message);
});

test('an empty configuration is a valid one', () => {
  expect(config('')).toEqual({ kube: { inCluster: false }, agents: [], log: { level: 'info' } });
});
