import { Agent, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renewCertificates } from '../../../agent/api/listener.ts';
import { type Certificate, TestAuthority } from '../../support/certificates.ts';
import { startApi } from './support/api.ts';

let authority: TestAuthority;
let stranger: TestAuthority;
let server: Certificate;
let operator: Certificate;
let node: Certificate;

beforeAll(async () => {
  authority = await TestAuthority.create();
  stranger = await TestAuthority.create();
  server = await authority.issue({ role: 'node', name: 'node-a' });
  operator = await authority.issue({ role: 'operator', name: 'operator' });
  node = await authority.issue({ role: 'node', name: 'node-b' });
});

afterAll(async () => {
  await authority.remove();
  await stranger.remove();
});

function listen() {
  return startApi({ tls: { ca: authority.ca, ...server } });
}

interface Reply {
  readonly status: number | undefined;
  readonly body: string;
}

async function get(port: number, path: string, client?: Certificate, agent?: Agent): Promise<Reply> {
  const options = { host: '127.0.0.1', port, path, ca: authority.ca, ...client, ...(agent && { agent }) };
  return new Promise((resolve, reject) => {
    request(options, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode, body }), reject);
    })
      .on('error', reject)
      .end();
  });
}

describe('who may do what', () => {
  test('the operator everything', async () => {
    const { port } = await listen();
    for (const path of ['/v1/volumes', '/v1/mounts', '/openapi.json', '/metrics', '/healthz', '/readyz']) {
      expect([path, (await get(port, path, operator)).status]).toEqual([path, 200]);
    }
  });

  test('another node only the metrics and the probes', async () => {
    const { port } = await listen();
    for (const path of ['/metrics', '/healthz', '/readyz']) {
      expect([path, (await get(port, path, node)).status]).toEqual([path, 200]);
    }
    const refused = await get(port, '/v1/volumes', node);
    expect(refused.status).toBe(403);
    expect(JSON.parse(refused.body).detail).toBe('node "node-b" may not use the API; only the operator may');
    expect((await get(port, '/nowhere', node)).status).toBe(403);
  });

  test('nobody in particular only the probes', async () => {
    const { port } = await listen();
    const unnamed = await authority.issueSubject('/CN=somebody');
    const forged = await stranger.issue({ role: 'operator', name: 'operator' });
    for (const client of [undefined, unnamed, forged]) {
      for (const path of ['/healthz', '/readyz']) expect((await get(port, path, client)).status).toBe(200);
      for (const path of ['/v1/volumes', '/metrics', '/openapi.json', '/nowhere', '/healthz/', '//healthz']) {
        expect([path, (await get(port, path, client)).status]).toEqual([path, 401]);
      }
    }
  });

  test('a resumed session is who it was', async () => {
    const { app, port } = await listen();
    const agent = new Agent({ maxCachedSessions: 10 });
    let resumed = 0;
    app.server.on('secureConnection', (socket) => {
      if (socket.isSessionReused()) resumed += 1;
    });
    for (let round = 0; round < 3; round += 1) {
      expect((await get(port, '/v1/volumes', operator, agent)).status).toBe(200);
    }
    agent.destroy();
    expect(resumed).toBeGreaterThan(0);
  });
});

test('nothing older than TLS 1.3 is spoken', async () => {
  const { port } = await listen();
  const socket = connect({ host: '127.0.0.1', port, ca: authority.ca, ...operator, maxVersion: 'TLSv1.2' });
  await expect(
    new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject)),
  ).rejects.toThrow(/protocol version/);
});

test('new connections get renewed certificates', async () => {
  const { app, port } = await listen();
  const serial = async () => {
    const socket = connect({ host: '127.0.0.1', port, ca: authority.ca });
    await new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject));
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  };
  const before = await serial();
  renewCertificates(app.server, { ca: authority.ca, ...(await authority.issue({ role: 'node', name: 'node-a' })) });
  expect(await serial()).not.toBe(before);
});
