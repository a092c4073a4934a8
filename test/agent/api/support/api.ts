import { afterEach } from 'vitest';
import type { ApiServer } from '../../../../agent/api/fastify.ts';
import type { TlsMaterial } from '../../../../agent/api/listener.ts';
import { createApi } from '../../../../agent/api/server.ts';
import { type Log, silentLog } from '../../../../common/log.ts';
import { MemoryMounts, MemoryVolumes } from './memory-services.ts';

export interface ApiUnderTest {
  readonly app: ApiServer;
  readonly volumes: MemoryVolumes;
  readonly mounts: MemoryMounts;
  /** A request without a socket; a body is sent as JSON. */
  request(method: Method, url: string, body?: unknown): Promise<Answer>;
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

/** An API over services in memory, closed after the test. */
export async function startApi(options: { tls?: TlsMaterial; log?: Log } = {}): Promise<ApiUnderTest> {
  const volumes = new MemoryVolumes();
  const mounts = new MemoryMounts();
  const app = await createApi({ volumes, mounts, version: '1.2.3', tls: options.tls, log: options.log ?? silentLog });
  open.add(app);
  return { app, volumes, mounts, request: (method, url, body) => inject(app, method, url, body) };
}

async function inject(app: ApiServer, method: Method, url: string, body: unknown): Promise<Answer> {
  const payload = body === undefined ? {} : { payload: JSON.stringify(body), headers: jsonHeaders };
  const response = await app.inject({ method, url, ...payload });
  const json = /json/.test(String(response.headers['content-type'])) ? response.json() : undefined;
  return { status: response.statusCode, headers: response.headers, json, text: response.body };
}

const jsonHeaders = { 'content-type': 'application/json' };
