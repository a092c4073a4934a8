import { request as httpRequest, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach } from 'vitest';
import type { ApiServer } from '../../../../agent/api/fastify.ts';
import type { TlsMaterial } from '../../../../agent/api/listener.ts';
import type { StatisticsSource } from '../../../../agent/api/routes/metrics.ts';
import { createApi } from '../../../../agent/api/server.ts';
import { type Log, silentLog } from '../../../../common/log.ts';
import { MemoryMounts, MemoryVolumes } from './memory-services.ts';

export interface ApiUnderTest {
  readonly app: ApiServer;
  readonly port: number;
  readonly volumes: MemoryVolumes;
  readonly mounts: MemoryMounts;
  /** A body is sent as JSON. */
  request(method: Method, path: string, body?: unknown): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of many shapes.
  readonly json: any;
  readonly text: string;
}

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE' | 'PATCH' | 'HEAD' | 'OPTIONS';

const open = new Set<ApiServer>();

afterEach(async () => {
  for (const app of open) await app.close();
  open.clear();
});

/** An API over services in memory that listens on a loopback port until the test ends. */
export async function startApi(
  options: { tls?: TlsMaterial; log?: Log; statistics?: StatisticsSource } = {},
): Promise<ApiUnderTest> {
  const node = { node: 'node-a', mirrorAddress: '10.20.0.7:7072' };
  const volumes = new MemoryVolumes();
  const mounts = new MemoryMounts();
  const { tls, log = silentLog, statistics = async () => new Map() } = options;
  const app = await createApi({ node, volumes, mounts, version: '1.2.3', tls, log, statistics });
  open.add(app);
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port);
  return { app, port, volumes, mounts, request: (method, path, body) => send(port, method, path, body) };
}

/** Sends the path as it is: what would make a URL out of it would resolve the tricks in it. */
function send(port: number, method: Method, path: string, body: unknown): Promise<Answer> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const headers = { connection: 'close', ...(payload !== undefined && { 'content-type': 'application/json' }) };
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (response) => {
      text(response).then((received) => resolve(answerOf(response, received)), reject);
    });
    outgoing.on('error', reject).end(payload);
  });
}

function answerOf(response: IncomingMessage, received: string): Answer {
  const isJson = /json/.test(response.headers['content-type'] ?? '') && received !== '';
  const json: unknown = isJson ? JSON.parse(received) : undefined;
  return { status: response.statusCode ?? 0, headers: response.headers, json, text: received };
}
