import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { problemSchema } from '../../../agent/api/contract/problem.ts';
import { problemOf } from '../../../agent/api/problem.ts';
import { type ErrorCode, UnderstudyError } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import { silentLog } from '../../../common/log.ts';
import { type Method, startApi } from './support/api.ts';

const statuses: Record<ErrorCode, number> = {
  Invalid: 400,
  NotFound: 404,
  AlreadyExists: 409,
  Conflict: 409,
  InUse: 409,
  Fenced: 409,
  ReadOnly: 409,
  Io: 500,
  Corrupt: 500,
  Internal: 500,
  Protocol: 502,
  NotReady: 503,
  Unavailable: 503,
  Closed: 503,
  Timeout: 504,
  NoSpace: 507,
};

describe('an error of the service becomes a problem', () => {
  test.each(Object.entries(statuses))('%s is %i', async (code, status) => {
    const { request, volumes } = await startApi();
    const cause = new Error('the cause');
    volumes.failure = new UnderstudyError(code as ErrorCode, 'what happened', { cause });
    const answer = await request('GET', '/v1/volumes/v1');
    expect(answer.status).toBe(status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(problemSchema.strict().parse(answer.json)).toMatchObject({ type: 'about:blank', status, code });
    expect(answer.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
    if (code !== 'Internal') expect(answer.json.detail).toBe('what happened: the cause');
  });

  test('an error of the operating system keeps its message', async () => {
    const { request, volumes } = await startApi();
    volumes.failure = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    expect(await request('GET', '/v1/volumes/v1')).toMatchObject({
      status: 507,
      json: { code: 'NoSpace', detail: 'ENOSPC: no space left on device, write' },
    });
  });

  test.each([new TypeError('secret is undefined'), 'a string', null])(
    'a defect is logged, and not described to the client: %s',
    async (failure) => {
      const logged: Record<string, unknown>[] = [];
      const log: Log = { ...silentLog, error: (labels) => logged.push({ ...labels }) };
      const { request, volumes } = await startApi({ log });
      volumes.get = () => Promise.reject(failure);
      const answer = await request('GET', '/v1/volumes/v1');
      expect(answer).toMatchObject({ status: 500, json: { code: 'Internal' } });
      expect(answer.text).not.toMatch(/secret|string|\.ts|at /);
      expect(logged).toEqual([expect.objectContaining({ error: failure, path: '/v1/volumes/v1', status: 500 })]);
      expect(answer.json.detail).toContain(String(logged[0]?.request));
    },
  );
});

describe('what is not in the contract', () => {
  test.each<[Method, string]>([
    ['GET', '/'],
    ['GET', '/v1'],
    ['GET', '/v2/volumes'],
    ['GET', '/v1/volumes/v1/'],
    ['GET', '/v1/volumes/v1/mounts'],
    ['DELETE', '/v1/volumes/v1/snapshots/s1/'],
    ['GET', '/v1/../v1/volumes'],
    ['GET', '//v1/volumes'],
  ])('%s %s is not found', async (method, path) => {
    const { request } = await startApi();
    const answer = await request(method, path);
    expect(answer).toMatchObject({ status: 404, json: { code: 'NotFound' } });
    expect(answer.headers['content-type']).toBe('application/problem+json');
  });

  test.each<[Method, string, string]>([
    ['DELETE', '/v1/volumes', 'GET, HEAD'],
    ['PATCH', '/v1/volumes/v1', 'DELETE, GET, HEAD, PUT'],
    ['GET', '/v1/volumes/v1/prepare?x=1', 'POST'],
    ['POST', '/v1/volumes/v1/snapshots/s1', 'DELETE, GET, HEAD, PUT'],
    ['OPTIONS', '/healthz', 'GET, HEAD'],
  ])('%s %s is not allowed', async (method, path, allow) => {
    const { request } = await startApi();
    const answer = await request(method, path);
    expect(answer).toMatchObject({ status: 405, headers: { allow }, json: { status: 405 } });
    expect(answer.json.detail).toContain(`expected ${allow}`);
  });
});

describe('a name that could be a path is refused before the service sees it', () => {
  const names = [
    '',
    '..',
    '.',
    '...',
    'a..b',
    '..%2f..%2fetc',
    '%2e%2e',
    '%2e%2e%2fetc%2fpasswd',
    'a%2Fb',
    'a%5Cb',
    'a%00b',
    'a%0Ab',
    '%252e%252e%252fetc',
    'a@b',
    'A',
    'a%20b',
    '-a',
    'a-',
    '%E2%80%A6',
    '%F0%9F%92%BE',
    'x'.repeat(129),
    'x'.repeat(1000),
  ];
  const paths: [Method, (name: string) => string][] = [
    ['GET', (name) => `/v1/volumes/${name}`],
    ['PUT', (name) => `/v1/volumes/${name}`],
    ['DELETE', (name) => `/v1/volumes/${name}`],
    ['POST', (name) => `/v1/volumes/${name}/prepare`],
    ['PUT', (name) => `/v1/volumes/v1/snapshots/${name}`],
    ['DELETE', (name) => `/v1/volumes/v1/snapshots/${name}`],
    ['PUT', (name) => `/v1/volumes/v1/mounts/${name}`],
    ['DELETE', (name) => `/v1/volumes/v1/snapshots/s1/mounts/${name}`],
  ];

  test.each(names)('%s', async (name) => {
    const { request, volumes, mounts } = await startApi();
    const touched = () => {
      throw new Error('the service was reached');
    };
    for (const service of [volumes, mounts]) {
      for (const method of Object.getOwnPropertyNames(Object.getPrototypeOf(service))) {
        if (method !== 'constructor') Object.assign(service, { [method]: touched });
      }
    }
    for (const [method, pathOf] of paths) {
      const answer = await request(method, pathOf(name));
      expect({ path: pathOf(name), status: answer.status, code: answer.json?.code }).toEqual({
        path: pathOf(name),
        status: 400,
        code: 'Invalid',
      });
    }
  });

  test.each(['%', '%zz', 'a%2', '%c3%28'])('a broken percent-encoding: %s', async (name) => {
    const { request } = await startApi();
    const answer = await request('GET', `/v1/volumes/${name}`);
    expect(answer).toMatchObject({ status: 400, json: { code: 'Invalid', title: 'Bad Request' } });
    expect(answer.headers['content-type']).toBe('application/problem+json');
  });

  test('the longest name is accepted', async () => {
    const { request } = await startApi();
    expect(await request('GET', `/v1/volumes/${'x'.repeat(128)}`)).toMatchObject({ status: 404 });
    expect(await request('GET', `/v1/volumes/a.b-c%2Dd`)).toMatchObject({ status: 404 });
  });
});

describe('a body that cannot be read', () => {
  test.each([
    ['not JSON', 'application/json', '{"size":', 400],
    ['no type of JSON', 'application/x-www-form-urlencoded', '{}', 415],
    ['too large', 'application/json', JSON.stringify({ pool: 'x'.repeat(70_000) }), 413],
    ['a prototype', 'application/json', '{"__proto__": {"admin": true}}', 400],
  ])('%s', async (_, contentType, payload, status) => {
    const { app, volumes } = await startApi();
    const response = await app.inject({
      method: 'PUT',
      url: '/v1/volumes/v1',
      headers: { 'content-type': contentType },
      payload,
    });
    expect(response.statusCode).toBe(status);
    expect(response.headers['content-type']).toBe('application/problem+json');
    expect(response.json()).toMatchObject({ status, code: 'Invalid' });
    expect(response.body).not.toMatch(/\.[jt]s:|node_modules/);
    expect(volumes.specs).toEqual([]);
  });
});

describe('what is not HTTP', () => {
  test.each([
    ['noise', 'hello\r\n\r\n', 400],
    ['endless headers', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  ])('%s is answered with a problem, and the connection ends', async (_, sent, status) => {
    const { port } = await startApi();
    const socket = connect(port, '127.0.0.1');
    socket.write(sent);
    const [head = '', body = ''] = (await text(socket)).split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(head).toContain('Content-Type: application/problem+json');
    expect(problemSchema.parse(JSON.parse(body))).toMatchObject({ status });
  });
});

test('a web page that has its own name resolve to loopback is refused', async () => {
  const { app } = await startApi();
  for (const host of [
    'evil.example',
    'evil.example:7071',
    '127.0.0.1.evil.example',
    '10.0.0.7:7071',
    '[::2]:7071',
    'a b',
  ]) {
    const response = await app.inject({ url: '/v1/volumes', headers: { host } });
    expect([host, response.statusCode]).toEqual([host, 403]);
  }
  for (const host of ['localhost', 'localhost:7071', '127.0.0.1:7071', '[::1]:7071', '127.0.0.1']) {
    const response = await app.inject({ url: '/v1/volumes', headers: { host } });
    expect([host, response.statusCode]).toEqual([host, 200]);
  }
});

test('an error of another library without a usable status is a defect', () => {
  expect(problemOf(Object.assign(new Error('x'), { statusCode: 200 }), 'r').problem.status).toBe(500);
});
