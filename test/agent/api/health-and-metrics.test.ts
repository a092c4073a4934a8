import { expect, test } from 'vitest';
import { OperationStatistics } from '../../../agent/volume/operation-statistics.ts';
import { startApi } from './support/api.ts';

const spec = { size: 8192, pool: 'main', role: 'primary', epoch: 1 };

test('the process is alive also while volumes recover, and ready when none does', async () => {
  const { request, volumes } = await startApi();
  await request('PUT', '/v1/volumes/v1', spec);
  const view = await volumes.get('v1');
  volumes.views.set('v1', { ...view, state: 'Recovering' });
  expect(await request('GET', '/healthz')).toMatchObject({ status: 200, json: { status: 'ok' } });
  expect(await request('GET', '/readyz')).toMatchObject({
    status: 503,
    json: { code: 'NotReady', detail: 'volumes in recovery: 1' },
  });
  volumes.views.set('v1', { ...view, state: 'Fenced' });
  expect(await request('GET', '/readyz')).toMatchObject({ status: 200, json: { status: 'ok' } });
});

test('metrics say how volumes, mirrors, snapshots and buffers are', async () => {
  const { request, volumes } = await startApi();
  await request('PUT', '/v1/volumes/v1', { ...spec, buffer: { pool: 'buffer', capacity: 1000 } });
  await request('PUT', '/v1/volumes/v2', { ...spec, role: 'standby' });
  await request('PUT', '/v1/volumes/v3', { ...spec, role: 'standby' });
  const snapshot = { state: 'Ready', valid: true, bufferBytes: 500, readers: 2 } as const;
  volumes.views.set('v1', {
    ...(await volumes.get('v1')),
    mirrors: [{ name: 'm', address: 'b:1', mode: 'synchronous', state: 'Resyncing', dirtyBytes: 65536, lagBytes: 512 }],
    snapshots: [
      { ...snapshot, name: 's1', exclusiveBytes: 100 },
      { ...snapshot, name: 's2', exclusiveBytes: 20 },
    ],
    buffer: { pool: 'buffer', usedBytes: 600, capacityBytes: 1000, maxSnapshots: 32 },
  });
  const { status, headers, text } = await request('GET', '/metrics');
  expect(status).toBe(200);
  expect(headers['content-type']).toMatch(/^text\/plain/);
  for (const line of [
    'understudy_volumes{role="primary",state="Ready"} 1',
    'understudy_volumes{role="standby",state="Ready"} 2',
    'understudy_volume_size_bytes{volume="v1"} 8192',
    'understudy_mirror_state{volume="v1",mirror="m",state="Resyncing"} 1',
    'understudy_mirror_dirty_bytes{volume="v1",mirror="m"} 65536',
    'understudy_mirror_lag_bytes{volume="v1",mirror="m"} 512',
    'understudy_snapshots{volume="v1",state="Ready"} 2',
    'understudy_snapshot_exclusive_bytes{volume="v1"} 120',
    'understudy_snapshot_readers{volume="v1"} 4',
    'understudy_buffer_used_bytes{volume="v1"} 600',
    'understudy_buffer_capacity_bytes{volume="v1"} 1000',
    'understudy_api_request_duration_seconds_count{method="PUT",route="/v1/volumes/:volume",status="201"} 3',
  ]) {
    expect(text).toContain(`${line}\n`);
  }
  expect(text).toContain('process_resident_memory_bytes');
});

test('metrics have what the thread of a volume has counted', async () => {
  const statistics = new OperationStatistics();
  statistics.finished('write', 0.06, 4096, true);
  statistics.finished('write', 0.2, 4096, true);
  statistics.finished('write', 9_000, 4096, false);
  const counted = { operations: statistics.counts(), invalidatedSnapshots: 3 };
  const { request } = await startApi({ statistics: async () => new Map([['v1', counted]]) });
  await request('PUT', '/v1/volumes/v1', spec);
  const { text } = await request('GET', '/metrics');
  for (const line of [
    '# TYPE understudy_operation_duration_seconds histogram',
    'understudy_operation_duration_seconds_bucket{volume="v1",operation="write",le="0.00005"} 0',
    'understudy_operation_duration_seconds_bucket{volume="v1",operation="write",le="0.0001"} 1',
    'understudy_operation_duration_seconds_bucket{volume="v1",operation="write",le="0.00025"} 2',
    'understudy_operation_duration_seconds_bucket{volume="v1",operation="write",le="5"} 2',
    'understudy_operation_duration_seconds_bucket{volume="v1",operation="write",le="+Inf"} 3',
    'understudy_operation_duration_seconds_count{volume="v1",operation="write"} 3',
    'understudy_operation_bytes_total{volume="v1",operation="write"} 8192',
    'understudy_operation_errors_total{volume="v1",operation="write"} 1',
    'understudy_snapshots_invalidated_total{volume="v1"} 3',
  ]) {
    expect(text).toContain(`${line}\n`);
  }
  expect(text).not.toContain('operation="read"');
});

test('what is gone, and what strangers ask for, leaves nothing in the metrics', async () => {
  const { request } = await startApi();
  await request('PUT', '/v1/volumes/v1', spec);
  expect((await request('GET', '/metrics')).text).toContain('volume="v1"');
  await request('DELETE', '/v1/volumes/v1');
  for (let n = 0; n < 5; n += 1) await request('GET', `/nowhere/${n}`);
  const { text } = await request('GET', '/metrics');
  expect(text).not.toContain('v1"');
  expect(text).not.toContain('nowhere');
  expect(text).toContain('understudy_api_request_duration_seconds_count{method="GET",route="none",status="404"} 5');
});
