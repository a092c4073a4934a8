import { describe, expect, test } from 'vitest';
import { snapshotViewSchema } from '../../../agent/api/contract/volumes.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { startApi } from './support/api.ts';

async function startWithVolume() {
  const api = await startApi();
  await api.request('PUT', '/v1/volumes/v1', { size: 4096, pool: 'main', role: 'primary', epoch: 1 });
  return api;
}

const path = '/v1/volumes/v1/snapshots/s1';

test('a snapshot that is taken at once is 201, then 200', async () => {
  const { request } = await startWithVolume();
  const taken = await request('PUT', path, {});
  expect(taken).toMatchObject({ status: 201, json: { name: 's1', state: 'Ready' } });
  expect(snapshotViewSchema.parse(taken.json)).toEqual(taken.json);
  expect(await request('PUT', path, {})).toMatchObject({ status: 200, json: { name: 's1' } });
  expect(await request('GET', path)).toMatchObject({ status: 200, json: { name: 's1' } });
});

test('a body is not needed', async () => {
  const { request } = await startWithVolume();
  expect(await request('PUT', path)).toMatchObject({ status: 201 });
});

test('a snapshot that waits is 202 until it is taken, then 201 once', async () => {
  const { request, volumes } = await startWithVolume();
  expect(await request('PUT', path, { lull: {} })).toMatchObject({ status: 202, json: { state: 'Waiting' } });
  expect(await request('PUT', path, { lull: {} })).toMatchObject({ status: 202 });

  const putSnapshot = volumes.putSnapshot.bind(volumes);
  volumes.putSnapshot = async (...call) => ({ ...(await putSnapshot(...call)), state: 'Ready' });
  expect(await request('PUT', path, { lull: {} })).toMatchObject({ status: 201, json: { state: 'Ready' } });
});

test('a snapshot that was lost is there all the same', async () => {
  const { request, volumes } = await startWithVolume();
  await request('PUT', path, {});
  const view = volumes.views.get('v1');
  if (view?.snapshots[0]) view.snapshots[0] = { ...view.snapshots[0], state: 'Invalid', valid: false, reason: 'full' };
  expect(await request('PUT', path, {})).toMatchObject({ status: 200, json: { state: 'Invalid', reason: 'full' } });
});

test('a mirror that is not in sync is worth trying again', async () => {
  const { request, volumes } = await startWithVolume();
  volumes.putSnapshot = async () => {
    throw new UnderstudyError('NotReady', 'mirror "m" of volume "v1" is Resyncing: snapshots wait until it is InSync');
  };
  const answer = await request('PUT', path, { mirror: 'm' });
  expect(answer).toMatchObject({ status: 503, json: { code: 'NotReady' } });
  expect(answer.headers['retry-after']).toBe('1');
});

test('deletion is idempotent', async () => {
  const { request } = await startWithVolume();
  await request('PUT', path, {});
  expect(await request('DELETE', path)).toMatchObject({ status: 204 });
  expect(await request('DELETE', path)).toMatchObject({ status: 204 });
  expect(await request('GET', path)).toMatchObject({
    status: 404,
    json: { code: 'NotFound', detail: 'volume "v1" has no snapshot "s1"' },
  });
});

describe('a request that does not fit is refused', () => {
  test.each([
    [{ mirror: 'a@b' }, 'mirror'],
    [{ lull: { quietForMs: 0 } }, 'lull.quietForMs'],
    [{ lull: { onTimeout: 'wait' } }, 'lull.onTimeout'],
    [{ freeze: true }, 'freeze'],
    [{ freeze: { timeoutms: 3 } }, 'freeze.timeoutms'],
  ])('%j', async (body, key) => {
    const { request } = await startWithVolume();
    const answer = await request('PUT', path, body);
    expect(answer).toMatchObject({ status: 400, json: { errors: [{ path: key }] } });
    expect(await request('GET', path)).toMatchObject({ status: 404 });
  });
});
