import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { validateSpec } from '../../operator/resources/validate-spec.ts';

async function read(file: string): Promise<{ spec: object }> {
  return parse(await readFile(path.join(import.meta.dirname, '../../examples', file), 'utf8')) as { spec: object };
}

test('the example with a Job is a schedule whose Job mounts the snapshot', async () => {
  const schedule = validateSpec(snapshotSchedules, (await read('schedule/backup.yaml')).spec);
  expect(schedule).toMatchObject({ ok: true, value: { job: { onSuccess: 'Release' } } });
});

test('the example is a schedule that fits the mirror of the quick start', async () => {
  const schedule = validateSpec(snapshotSchedules, (await read('schedule/schedule.yaml')).spec);
  expect(schedule).toMatchObject({ ok: true, value: { template: { source: { mirror: 'data-standby' } } } });
  const { keepLast = 0, hourly = 0, daily = 0 } = schedule.ok ? schedule.value.retention : {};
  const mirror = (await read('quickstart/standby-mirror.yaml')) as { spec: { buffer: { maxSnapshots: number } } };
  expect(keepLast + hourly + daily).toBeLessThanOrEqual(mirror.spec.buffer.maxSnapshots - 1);
});
