import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { RealKubeApi } from '../../../operator/kube/real-kube-api.ts';
import { startReflector } from '../../../operator/kube/reflector.ts';
import { type NodePool, nodePools } from '../../../operator/resources/node-pool.ts';
import { FakeApiServer, sendJson, sendStatus } from '../../support/fake-api-server.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

/** The objects that the server has, and the watches that are open. */
let objects: Map<string, string>;
let watches: ServerResponse[];
let server: FakeApiServer;
let reflector: { stop(): Promise<void> } | undefined;
/** What the reflector said, in order. */
let heard: string[];
let restarts: unknown[];
let version: number;
/** What the server does with the next requests instead of answering them as it should. */
let trouble: ((response: ServerResponse) => void)[];

const timeoutMs = 10_000;

beforeEach(async () => {
  [objects, watches, heard, restarts, version, trouble] = [new Map(), [], [], [], 100, []];
  server = await FakeApiServer.start();
  server.answer = ({ url }, response) => {
    const wrong = trouble.shift();
    if (wrong !== undefined) wrong(response);
    else if (url.searchParams.get('watch') === 'true') watches.push(response.writeHead(200));
    else sendJson(response, { metadata: { resourceVersion: String(version) }, items: [...objects].map(toObject) });
    if (url.searchParams.get('watch') === 'true' && wrong === undefined) response.flushHeaders();
  };
});

afterEach(async () => {
  await reflector?.stop();
  await server.stop();
});

function toObject([name, resourceVersion]: readonly [string, string]) {
  return { metadata: { name, uid: name, resourceVersion } };
}

/** Something changes, and whoever watches is told. */
function change(type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK', name: string): void {
  version += 1;
  objects.set(name, String(version));
  if (type === 'DELETED') objects.delete(name);
  const line = JSON.stringify({ type, object: toObject([name, String(version)]) });
  watches.at(-1)?.write(`${line}\n`);
}

function start(clock: Clock = systemClock): void {
  reflector = startReflector<NodePool>({
    api: new RealKubeApi(server.kubeConfig()),
    resource: nodePools,
    clock,
    random: () => 0,
    log: silentLog,
    idleTimeoutMs: 60_000,
    onList: (items) => heard.push(`list ${items.map(({ metadata }) => metadata.name)}`),
    onChange: (type, object) => heard.push(`${type} ${object.metadata.name}`),
    onRestart: (error) => restarts.push(error),
  });
}

async function watching(count: number): Promise<void> {
  await waitFor(() => watches.length === count, { timeoutMs, what: `watch number ${count}` });
}

async function hears(...expected: string[]): Promise<void> {
  await waitFor(() => heard.length >= expected.length, { timeoutMs, what: expected.join(', ') });
  expect(heard).toEqual(expected);
}

function watchedFrom(): (string | null)[] {
  const seen = server.seen.filter(({ url }) => url.searchParams.has('watch'));
  return seen.map(({ url }) => url.searchParams.get('resourceVersion'));
}

test('lists, then follows', async () => {
  objects.set('a', '1');
  start();
  await watching(1);
  change('ADDED', 'b');
  await hears('list a', 'ADDED b');
});

test('goes on from where it was when the connection drops', async () => {
  start();
  await watching(1);
  change('ADDED', 'a');
  await hears('list ', 'ADDED a');
  watches[0]?.destroy();
  await watching(2);
  change('ADDED', 'b');
  await hears('list ', 'ADDED a', 'ADDED b');
  expect(watchedFrom()).toEqual(['100', '101']);
});

test('goes on without a fuss when the server ends the watch', async () => {
  start();
  await watching(1);
  watches[0]?.end();
  await watching(2);
  expect(restarts).toEqual([]);
});

test('goes on from the last bookmark', async () => {
  start();
  await watching(1);
  version = 500;
  change('BOOKMARK', 'none');
  objects.clear();
  await new Promise((resolve) => watches[0]?.end(resolve));
  await watching(2);
  expect(watchedFrom()).toEqual(['100', '501']);
});

test('lists again when its version is gone', async () => {
  objects.set('a', '1');
  start();
  await watching(1);
  objects.delete('a');
  objects.set('b', '2');
  trouble.push((response) => sendStatus(response, 410, 'Expired', 'too old resource version'));
  watches[0]?.destroy();
  await hears('list a', 'list b');
  await watching(2);
});

test('does not stay with a connection that says nothing', async () => {
  const clock = new ManualClock();
  start(clock);
  await watching(1);
  clock.advance(59_999);
  change('ADDED', 'a');
  await hears('list ', 'ADDED a');
  // Any word shows that the connection lives.
  clock.advance(59_999);
  change('ADDED', 'b');
  await hears('list ', 'ADDED a', 'ADDED b');
  expect(restarts).toEqual([]);
  clock.advance(60_000);
  await waitFor(() => restarts.length === 1, { timeoutMs });
  expect(String(restarts[0])).toContain('no word from the API server for 60000 ms');
  await waitFor(
    () => {
      clock.advance(1000);
      return watches.length === 2;
    },
    { timeoutMs },
  );
  expect(watchedFrom()).toEqual(['100', '102']);
});

test('tries again when the server cannot answer', async () => {
  const broken = (response: ServerResponse) => void response.writeHead(503).end();
  trouble.push(broken, broken, (response) => void response.destroy());
  start();
  await watching(1);
  expect(restarts).toHaveLength(3);
  expect(heard).toEqual(['list ']);
});

test('stops at once, whatever it waits for', async () => {
  start();
  await watching(1);
  await reflector?.stop();
  reflector = undefined;
  trouble.push(() => {});
  start();
  await waitFor(() => server.seen.filter(({ url }) => !url.searchParams.has('watch')).length === 2, { timeoutMs });
});
