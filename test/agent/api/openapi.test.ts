import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { routePath, routes } from '../../../agent/api/contract/routes.ts';
import { startApi } from './support/api.ts';

interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly requestBody?: { readonly content: Readonly<Record<string, unknown>> };
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}

interface OpenApi {
  readonly openapi: string;
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, { readonly additionalProperties?: boolean }>> };
}

async function document(): Promise<OpenApi> {
  const { request } = await startApi();
  const answer = await request('GET', '/openapi.json');
  expect(answer.status).toBe(200);
  return answer.json;
}

test('the document is valid OpenAPI 3.1', async () => {
  const api = await document();
  expect(api.openapi).toBe('3.1.0');
  expect(api.info.version).toBe('1.2.3');
  expect(await new Validator().validate(JSON.parse(JSON.stringify(api)))).toEqual({ valid: true });
});

test('every route of the contract is in it, and no other', async () => {
  const { paths } = await document();
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(operations.toSorted()).toEqual(
    [
      'GET /healthz',
      'GET /readyz',
      'GET /metrics',
      'GET /v1/node',
      'GET /v1/volumes',
      'GET /v1/volumes/{volume}',
      'PUT /v1/volumes/{volume}',
      'DELETE /v1/volumes/{volume}',
      'POST /v1/volumes/{volume}/prepare',
      'POST /v1/volumes/{volume}/verify',
      'DELETE /v1/volumes/{volume}/verify',
      'PUT /v1/volumes/{volume}/restore',
      'DELETE /v1/volumes/{volume}/restore',
      'PUT /v1/volumes/{volume}/snapshots/{snapshot}',
      'PUT /v1/volumes/{volume}/groups/{attempt}',
      'DELETE /v1/volumes/{volume}/groups/{attempt}',
      'PUT /v1/volumes/{volume}/snapshots/{snapshot}/holds/{hold}',
      'DELETE /v1/volumes/{volume}/snapshots/{snapshot}/holds/{hold}',
      'GET /v1/volumes/{volume}/snapshots/{snapshot}',
      'DELETE /v1/volumes/{volume}/snapshots/{snapshot}',
      'GET /v1/mounts',
      'PUT /v1/volumes/{volume}/mounts/{mount}',
      'DELETE /v1/volumes/{volume}/mounts/{mount}',
      'PUT /v1/volumes/{volume}/snapshots/{snapshot}/mounts/{mount}',
      'DELETE /v1/volumes/{volume}/snapshots/{snapshot}/mounts/{mount}',
    ].toSorted(),
  );
});

test('every operation says what it does, what it takes and what it answers', async () => {
  const { paths } = await document();
  const ids = new Set<string>();
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const what = `${method} ${path}`;
      expect(operation.summary, what).toMatch(/\.$/);
      expect(operation.operationId, what).toBeTruthy();
      ids.add(operation.operationId ?? '');
      const placeholders = [...path.matchAll(/\{([a-z]+)\}/g)].map((match) => match[1]);
      expect(
        (operation.parameters ?? []).map(({ name }) => name),
        what,
      ).toEqual(placeholders);
      const hasBody = method === 'post' || (method === 'put' && path.startsWith('/v1'));
      expect(operation.requestBody !== undefined, what).toBe(hasBody);
      expect(Object.keys(operation.responses), what).toEqual(expect.arrayContaining(['4XX', '5XX']));
      expect(operation.responses['4XX']?.content, what).toHaveProperty('application/problem+json');
    }
  }
  expect(ids.size).toBe(25);
});

test('answers may get more keys, requests may not', async () => {
  const { schemas } = (await document()).components;
  expect(Object.keys(schemas).toSorted()).toEqual([
    'MountView',
    'NodeView',
    'PrepareRequestInput',
    'PrepareResult',
    'Problem',
    'SnapshotMountInput',
    'SnapshotRequestInput',
    'SnapshotView',
    'VolumeMountInput',
    'VolumeSpecInput',
    'VolumeView',
  ]);
  for (const [name, schema] of Object.entries(schemas)) {
    expect(schema.additionalProperties, name).toBe(name.endsWith('Input') ? false : undefined);
  }
});

test('paths of clients are made from the routes', () => {
  expect(routePath(routes.volumes, {})).toBe('/v1/volumes');
  expect(routePath(routes.snapshotMount, { volume: 'v', snapshot: 's', mount: 'm' })).toBe(
    '/v1/volumes/v/snapshots/s/mounts/m',
  );
  expect(routePath(routes.volume, { volume: '../x y' })).toBe('/v1/volumes/..%2Fx%20y');
});
