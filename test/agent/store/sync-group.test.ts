import { expect, test } from 'vitest';
import { SyncGroup } from '../../../agent/store/sync-group.ts';
import { settle } from '../../support/settle.ts';

function held() {
  const runs: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const group = new SyncGroup(() => new Promise((resolve, reject) => runs.push({ resolve, reject })));
  return { runs, group };
}

test('a call during a sync waits for the next one, and shares it with the others', async () => {
  const { runs, group } = held();
  const done: string[] = [];
  group.sync().then(() => done.push('first'));
  for (const name of ['second', 'third']) group.sync().then(() => done.push(name));
  expect(runs.length).toBe(1);
  runs[0]?.resolve();
  await settle();
  expect(done).toEqual(['first']);
  expect(runs.length).toBe(2);
  group.sync().then(() => done.push('fourth'));
  runs[1]?.resolve();
  await settle();
  expect(done).toEqual(['first', 'second', 'third']);
  runs[2]?.resolve();
  await group.idle();
  await settle();
  expect(done).toEqual(['first', 'second', 'third', 'fourth']);
  expect(runs.length).toBe(3);
});

test('a failure is that of the calls that shared the sync', async () => {
  const { runs, group } = held();
  const first = group.sync();
  const second = group.sync();
  runs[0]?.reject(new Error('no'));
  await expect(first).rejects.toThrow('no');
  runs[1]?.resolve();
  await second;
});
