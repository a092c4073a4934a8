import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../common/log.ts';
import { conditionEvents } from '../../../operator/controllers/condition-events.ts';
import { EventRecorder } from '../../../operator/controllers/event-recorder.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import type { Condition } from '../../../operator/resources/conditions.ts';
import { events, namespaces } from '../../../operator/resources/core-kinds.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { ManualClock } from '../../support/manual-clock.ts';

function condition(type: string, status: Condition['status'], reason: string, message = 'm'): Condition {
  return { type, status, reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' };
}

describe('events from conditions', () => {
  test('a change of status or reason is told once, a change of message is not', () => {
    const before = [
      condition('Ready', 'False', 'Resyncing', '1 of 4'),
      condition('InSync', 'False', 'Resyncing', '1 of 4'),
    ];
    const progress = [
      condition('Ready', 'False', 'Resyncing', '2 of 4'),
      condition('InSync', 'False', 'Resyncing', '2 of 4'),
    ];
    expect(conditionEvents(before, progress)).toEqual([]);
    const after = [condition('Ready', 'True', 'InSync'), condition('InSync', 'True', 'InSync')];
    expect(conditionEvents(progress, after)).toEqual([{ type: 'Normal', reason: 'InSync', message: 'm' }]);
  });

  test('what has to be looked at is a warning, what passes by itself is not', () => {
    const types = (list: Condition[]) => conditionEvents(undefined, list).map(({ type }) => type);
    expect(types([condition('Ready', 'False', 'Pending')])).toEqual(['Normal']);
    expect(types([condition('Ready', 'False', 'Invalid')])).toEqual(['Warning']);
    expect(types([condition('Ready', 'Unknown', 'AgentUnreachable')])).toEqual(['Warning']);
    expect(types([condition('DeletionBlocked', 'True', 'AgentUnreachable')])).toEqual(['Warning']);
    expect(types([condition('DeletionBlocked', 'True', 'WaitingForDependents')])).toEqual(['Normal']);
    expect(types([condition('BufferOnOwnDisk', 'False', 'SameDisk')])).toEqual(['Warning']);
  });
});

describe('the recorder', () => {
  const clock = new ManualClock();
  const pool = {
    apiVersion: 'understudy.dev/v1alpha1',
    kind: 'NodePool',
    metadata: { name: 'p', uid: 'u', resourceVersion: '1' },
  };
  const warning = { type: 'Warning', reason: 'AgentUnreachable', message: 'no answer' } as const;

  test('counts the same event instead of writing it again, and writes it anew when it is gone', async () => {
    const api = new InMemoryKubeApi();
    let number = 0;
    const recorder = new EventRecorder(api, clock, () => (number += 0.01), silentLog);
    recorder.record(pool, warning);
    clock.advance(5000);
    recorder.record(pool, warning);
    recorder.record(pool, { ...warning, message: 'another' });
    await recorder.flush();
    const { items } = await api.list(events, { namespace: 'default' });
    expect(items.map(({ message, count }) => [message, count])).toEqual([
      ['no answer', 2],
      ['another', 1],
    ]);
    expect(items[0]).toMatchObject({
      involvedObject: { kind: 'NodePool', name: 'p', uid: 'u' },
      lastTimestamp: '1970-01-01T00:00:05Z',
    });
    for (const event of items) await api.delete(events, { namespace: 'default', name: event.metadata.name });
    recorder.record(pool, warning);
    await recorder.flush();
    expect((await api.list(events)).items.map(({ count }) => count)).toEqual([1]);
  });

  test('never fails, whatever the API says', async () => {
    const api = new InMemoryKubeApi({ namespaces: ['default', 'going'] });
    const held = { name: 'x', namespace: 'going', finalizers: ['test/hold'] };
    await api.create(events, { ...eventFor('going'), metadata: held });
    await api.delete(namespaces, { name: 'going' });
    const recorder = new EventRecorder(api, clock, () => 0.1, silentLog);
    recorder.record({ ...pool, metadata: { ...pool.metadata, namespace: 'going' } }, warning);
    recorder.record(pool, warning);
    await recorder.flush();
    expect((await api.list(events, { namespace: 'default' })).items).toHaveLength(1);
    expect(nodePools.namespaced).toBe(false);
  });
});

function eventFor(namespace: string) {
  return {
    apiVersion: 'v1',
    kind: 'Event',
    involvedObject: { apiVersion: 'v1', kind: 'Pod', name: 'x', namespace, uid: 'x' },
    type: 'Normal' as const,
    reason: 'R',
    message: 'm',
    source: { component: 'test' },
    firstTimestamp: '2026-01-01T00:00:00Z',
    lastTimestamp: '2026-01-01T00:00:00Z',
    count: 1,
  };
}
