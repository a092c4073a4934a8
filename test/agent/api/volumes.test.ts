import { describe, expect, test } from 'vitest';
import { volumeViewSchema } from '../../../agent/api/contract/volumes.ts';
import { startApi } from './support/api.ts';

const primary = { size: '1Gi', pool: 'main', role: 'primary', epoch: 1 };

test('a volume is created, found, listed, changed and deleted', async () => {
  const { request } = await startApi();
  expect(await request('GET', '/v1/volumes')).toMatchObject({ status: 200, json: [] });

  const created = await request('PUT', '/v1/volumes/v1', primary);
  expect(created).toMatchObject({ status: 201, json: { volume: 'v1', size: 1024 ** 3, role: 'primary', epoch: 1 } });
  expect(created.headers['content-type']).toBe('application/json; charset=utf-8');
  expect(volumeViewSchema.parse(created.json)).toEqual(created.json);

  expect(await request('PUT', '/v1/volumes/v1', { ...primary, epoch: 2 })).toMatchObject({
    status: 200,
    json: { epoch: 2 },
  });
  expect(await request('GET', '/v1/volumes/v1')).toMatchObject({ status: 200, json: { volume: 'v1', epoch: 2 } });
  expect((await request('GET', '/v1/volumes')).json).toHaveLength(1);

  expect(await request('DELETE', '/v1/volumes/v1')).toMatchObject({ status: 204, text: '' });
  expect(await request('DELETE', '/v1/volumes/v1')).toMatchObject({ status: 204 });
  expect(await request('GET', '/v1/volumes/v1')).toMatchObject({ status: 404 });
});

test('the service gets the specification with sizes in bytes and with defaults', async () => {
  const { request, volumes } = await startApi();
  await request('PUT', '/v1/volumes/v1', {
    ...primary,
    buffer: { pool: 'buffer', capacity: '2G' },
    mirrors: [{ name: 'm', address: '[::1]:7072', mode: 'synchronous' }],
  });
  expect(volumes.specs).toMatchObject([
    {
      size: 1024 ** 3,
      pool: 'main',
      role: 'primary',
      epoch: 1,
      blockSize: 512,
      provisioning: 'thick',
      buffer: { pool: 'buffer', capacity: 2_000_000_000, maxSnapshots: 32 },
      mirrors: [{ name: 'm', address: '[::1]:7072', mode: 'synchronous' }],
      onLoss: 'suspend',
    },
  ]);
});

test('a standby is prepared', async () => {
  const { request, volumes } = await startApi();
  await request('PUT', '/v1/volumes/v1', { ...primary, role: 'standby' });
  expect(await request('POST', '/v1/volumes/v1/prepare', { epoch: 2 })).toMatchObject({
    status: 200,
    json: { epoch: 2, clean: true, consistent: true, dataEpoch: 1 },
  });
  expect(volumes.views.get('v1')?.prepared).toBe(2);
  expect(await request('POST', '/v1/volumes/v2/prepare', { epoch: 2 })).toMatchObject({ status: 404 });
});

describe('a body that does not fit is answered with each key, what was expected and what was there', () => {
  test.each([
    [
      'no body',
      undefined,
      [
        { path: 'size', message: 'missing: expected a number or a string' },
        { path: 'pool', message: 'missing: expected a string' },
        { path: 'role', message: 'missing: expected "primary" or "standby"' },
        { path: 'epoch', message: 'missing: expected a number' },
      ],
    ],
    ['a list', [], [{ path: '', message: 'expected an object, got an empty list' }]],
    [
      'a bad size',
      { ...primary, size: '10 gigs' },
      [{ path: 'size', message: '"10 gigs" is not a size: expected bytes or a quantity such as 10Gi or 500M' }],
    ],
    ['an empty size', { ...primary, size: 0 }, [{ path: 'size', message: 'expected a size above zero, got 0' }]],
    [
      'another role',
      { ...primary, role: 'leader' },
      [{ path: 'role', message: 'expected "primary" or "standby", got "leader"' }],
    ],
    ['epoch 0', { ...primary, epoch: 0 }, [{ path: 'epoch', message: 'expected more than 0, got 0' }]],
    ['half an epoch', { ...primary, epoch: 1.5 }, [{ path: 'epoch', message: 'expected a whole number, got 1.5' }]],
    [
      'an unknown key',
      { ...primary, onloss: 'continue' },
      [{ path: 'onloss', message: 'unknown key "onloss"; did you mean "onLoss"?' }],
    ],
    [
      'a mirror without a port',
      { ...primary, mirrors: [{ name: 'm', address: 'b', mode: 'synchronous' }] },
      [
        {
          path: 'mirrors[0].address',
          message: '"b" is not an address: expected host:port, e.g. 10.0.0.7:7072 or [::1]:7072',
        },
      ],
    ],
    [
      'a pool that is a path',
      { ...primary, pool: '../main' },
      [
        {
          path: 'pool',
          message:
            'expected lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit, got "../main"',
        },
      ],
    ],
    [
      'another block size',
      { ...primary, blockSize: 1024 },
      [{ path: 'blockSize', message: 'expected 512 or 4096, got 1024' }],
    ],
  ])('%s', async (_, body, errors) => {
    const { request, volumes } = await startApi();
    const answer = await request('PUT', '/v1/volumes/v1', body);
    expect(answer).toMatchObject({ status: 400, json: { status: 400, code: 'Invalid', title: 'Bad Request' } });
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json.errors).toEqual(errors);
    for (const { path, message } of errors) {
      expect(answer.json.detail).toContain(path === '' ? message : `${path}: ${message}`);
    }
    expect(volumes.specs).toEqual([]);
  });
});

test('a volume is restored to a snapshot, and that is given up', async () => {
  const { request } = await startApi();
  await request('PUT', '/v1/volumes/v1', primary);
  const order = { name: 'r', snapshot: 's', mirror: 'm', before: 'kept' };
  const begun = await request('PUT', '/v1/volumes/v1/restore', order);
  expect(begun).toMatchObject({ status: 202, json: { restore: { name: 'r', snapshot: 's', state: 'Running' } } });
  expect(volumeViewSchema.parse(begun.json)).toEqual(begun.json);
  expect(await request('PUT', '/v1/volumes/v1/restore', { ...order, force: true })).toMatchObject({ status: 400 });
  expect(await request('DELETE', '/v1/volumes/v1/restore')).toMatchObject({ status: 204, text: '' });
});
