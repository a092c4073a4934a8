import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { WatchEvent } from '../../../operator/kube/kube-api.ts';
import { isGone } from '../../../operator/kube/kube-error.ts';
import { RealKubeApi } from '../../../operator/kube/real-kube-api.ts';
import { nodes } from '../../../operator/resources/core-kinds.ts';
import type { KubeObject } from '../../../operator/resources/kube-object.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { FakeApiServer, sendJson, sendStatus } from '../../support/fake-api-server.ts';

let server: FakeApiServer;
let api: RealKubeApi;
beforeEach(async () => {
  server = await FakeApiServer.start();
  api = new RealKubeApi(server.kubeConfig());
});
afterEach(() => server.stop());

const object = {
  apiVersion: 'understudy.dev/v1alpha1',
  kind: 'PrimaryVolume',
  metadata: { name: 'v', namespace: 'ns' },
};
const key = { namespace: 'ns', name: 'v' };
const root = '/apis/understudy.dev/v1alpha1';

describe('requests', () => {
  test('give objects without their managedFields, which nobody here reads and which can be larger than the rest', async () => {
    const metadata = { name: 'v', namespace: 'ns', managedFields: [{ manager: 'kubectl' }] };
    const answer = { ...object, metadata };
    server.answer = ({ url, method }, response) => {
      if (url.searchParams.has('watch')) response.end(`${JSON.stringify({ type: 'ADDED', object: answer })}\n`);
      else
        sendJson(
          response,
          url.searchParams.has('limit') ? { items: [answer], metadata: {} } : answer,
          method === 'POST' ? 201 : 200,
        );
    };
    const given: unknown[] = [
      await api.get(primaryVolumes, key),
      ...(await api.list(primaryVolumes)).items,
      await api.create(primaryVolumes, { ...object, spec: { size: '1Gi' } } as never),
      await api.update(primaryVolumes, object as never),
      await api.updateStatus(primaryVolumes, object as never),
      await api.patch(primaryVolumes, key, {}),
    ];
    const { signal } = new AbortController();
    await api.watch(primaryVolumes, { resourceVersion: '1', signal }, (event) =>
      given.push(Reflect.get(event, 'object')),
    );
    expect(given).toEqual(Array.from({ length: 7 }, () => object));
  });

  test('go where the API server has the objects, with the credentials of the kubeconfig', async () => {
    server.answer = (_, response) => sendJson(response, object);
    await api.get(primaryVolumes, key);
    await api.get(nodes, { name: 'node a' });
    await api.create(primaryVolumes, { ...object, spec: {} as never });
    await api.patch(primaryVolumes, key, { status: { epoch: 2 } }, { subresource: 'status' });
    await api.patch(primaryVolumes, key, { metadata: { labels: null } });
    await api.update(primaryVolumes, {
      ...object,
      metadata: { ...object.metadata, uid: 'u', resourceVersion: '3' },
      spec: {} as never,
    });
    await api.delete(primaryVolumes, key, { uid: 'u' });
    expect(server.seen.map(({ method, url }) => `${method} ${url.pathname}`)).toEqual([
      `GET ${root}/namespaces/ns/primaryvolumes/v`,
      'GET /api/v1/nodes/node%20a',
      `POST ${root}/namespaces/ns/primaryvolumes`,
      `PATCH ${root}/namespaces/ns/primaryvolumes/v/status`,
      `PATCH ${root}/namespaces/ns/primaryvolumes/v`,
      `PUT ${root}/namespaces/ns/primaryvolumes/v`,
      `DELETE ${root}/namespaces/ns/primaryvolumes/v`,
    ]);
    expect(server.seen.every(({ headers }) => headers.authorization === 'Bearer secret')).toBe(true);
    expect(server.seen[3]?.headers['content-type']).toBe('application/merge-patch+json');
    expect(JSON.parse(server.seen[3]?.body ?? '')).toEqual({ status: { epoch: 2 } });
    expect(JSON.parse(server.seen[6]?.body ?? '')).toMatchObject({ preconditions: { uid: 'u' } });
  });

  test('failures have the reason and the words of the API server', async () => {
    server.answer = (_, response) => sendStatus(response, 409, 'Conflict', 'it has been modified');
    await expect(api.patch(primaryVolumes, key, {})).rejects.toMatchObject({
      code: 'Conflict',
      message: 'it has been modified',
      labels: { status: 409, reason: 'Conflict' },
    });
    server.answer = (_, response) => sendStatus(response, 409, 'AlreadyExists', 'it exists');
    await expect(api.create(primaryVolumes, { ...object, spec: {} as never })).rejects.toMatchObject({
      code: 'AlreadyExists',
    });
    server.answer = (_, response) => response.writeHead(502).end('<html>bad gateway</html>');
    await expect(api.list(primaryVolumes)).rejects.toMatchObject({ code: 'Unavailable', labels: { status: 502 } });
    server.answer = (_, response) => sendStatus(response, 404, 'NotFound', 'none');
    expect(await api.get(primaryVolumes, key)).toBeUndefined();
    await api.delete(primaryVolumes, key);
  });

  test('a server that cannot be reached is Unavailable', async () => {
    await server.stop();
    await expect(api.list(nodePools)).rejects.toMatchObject({ code: 'Unavailable', labels: { status: 503 } });
    server = await FakeApiServer.start();
  });
});

describe('lists', () => {
  const page = (names: readonly string[], next: string) => ({
    metadata: { resourceVersion: '77', continue: next },
    items: names.map((name) => ({ metadata: { name, uid: name, resourceVersion: '1' }, spec: {} })),
  });

  test('are read page by page, and their items get the kind that the list leaves out', async () => {
    server.answer = ({ url }, response) =>
      sendJson(response, url.searchParams.get('continue') === 'more' ? page(['c'], '') : page(['a', 'b'], 'more'));
    const list = await api.list(nodePools, { labelSelector: 'app=db' });
    expect(list.items.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'NodePool a',
      'NodePool b',
      'NodePool c',
    ]);
    expect(list.resourceVersion).toBe('77');
    expect(server.seen.map(({ url }) => url.searchParams.get('labelSelector'))).toEqual(['app=db', 'app=db']);
  });

  test('begin again when they expired in the middle', async () => {
    let expired = false;
    server.answer = ({ url }, response) => {
      if (!url.searchParams.has('continue')) sendJson(response, page(['a'], 'more'));
      else if (expired) sendJson(response, page(['b'], ''));
      else {
        expired = true;
        sendStatus(response, 410, 'Expired', 'the continue token is too old');
      }
    };
    expect((await api.list(nodePools)).items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b']);
  });
});

describe('watches', () => {
  async function watch(write: (send: (text: string) => void, end: () => void) => void) {
    server.answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      write(
        (text) => response.write(text),
        () => response.end(),
      );
    };
    const events: WatchEvent<KubeObject>[] = [];
    const stop = new AbortController();
    const ended = api.watch(nodePools, { resourceVersion: '5', signal: stop.signal }, (event) => events.push(event));
    return { events, ended, stop };
  }

  const event = (type: string, name: string, version: string) =>
    `${JSON.stringify({ type, object: { metadata: { name, uid: name, resourceVersion: version } } })}\n`;

  test('deliver events however the stream is cut, and bookmarks', async () => {
    const text = event('ADDED', 'ä', '6') + event('BOOKMARK', '', '9') + event('DELETED', 'ä', '10');
    const { events, ended } = await watch(async (send, end) => {
      for (let i = 0; i < text.length; i += 7) {
        send(text.slice(i, i + 7));
        await new Promise((resolve) => setImmediate(resolve));
      }
      send('{"type":"ADDED","obj');
      end();
    });
    await ended;
    expect(events.map((seen) => (seen.type === 'BOOKMARK' ? seen : [seen.type, seen.object.metadata.name]))).toEqual([
      ['ADDED', 'ä'],
      { type: 'BOOKMARK', resourceVersion: '9' },
      ['DELETED', 'ä'],
    ]);
    const query = server.seen[0]?.url.searchParams;
    expect(query?.get('allowWatchBookmarks')).toBe('true');
    expect(query?.get('resourceVersion')).toBe('5');
  });

  test('that are too old are gone, whether said at once or in the stream', async () => {
    const gone = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
    const inStream = await watch((send, end) => {
      send(`${JSON.stringify({ type: 'ERROR', object: gone })}\n`);
      end();
    });
    await expect(inStream.ended).rejects.toSatisfy(isGone);
    server.answer = (_, response) => sendStatus(response, 410, 'Expired', 'too old resource version');
    const atOnce = api.watch(nodePools, { resourceVersion: '1', signal: new AbortController().signal }, () => {});
    await expect(atOnce).rejects.toSatisfy(isGone);
  });

  test('end with the reason of the signal', async () => {
    const { ended, stop } = await watch((send) => send(event('ADDED', 'a', '6')));
    stop.abort(new Error('not needed any more'));
    await expect(ended).rejects.toThrow('not needed any more');
  });

  test('that break off are Unavailable', async () => {
    server.answer = (_, response) => {
      response.writeHead(200).write(event('ADDED', 'a', '6'));
      setImmediate(() => response.destroy());
    };
    const broken = api.watch(nodePools, { resourceVersion: '5', signal: new AbortController().signal }, () => {});
    await expect(broken).rejects.toMatchObject({ code: 'Unavailable' });
  });

  test('answers that are no JSON are a protocol error', async () => {
    const { ended } = await watch((send, end) => {
      send('<html>\n');
      end();
    });
    await expect(ended).rejects.toMatchObject({ code: 'Protocol' });
  });
});
