import { expect, test } from 'vitest';
import { ArbiterPort } from '../../../agent/volume/arbiter-port.ts';
import type { ThreadMessage } from '../../../agent/volume/engine-calls.ts';

const question = { volume: 'v', uid: 'u', epoch: 1, mirror: 'm', key: 'default/data' };

test('answers reach the question that they are of, in whatever order they come', async () => {
  const sent: ThreadMessage[] = [];
  const port = new ArbiterPort((message) => sent.push(message));
  const outdated = port.arbiter.markOutdated(question);
  const inSync = port.arbiter.markInSync({ ...question, mirror: 'n' });
  expect(sent).toMatchObject([
    { type: 'askArbiter', id: 1, ask: 'markOutdated', question },
    { type: 'askArbiter', id: 2, ask: 'markInSync', question: { mirror: 'n' } },
  ]);
  port.answered(2, 'granted');
  port.answered(1, 'refused');
  port.answered(1, 'granted');
  expect(await Promise.all([outdated, inSync])).toEqual(['refused', 'granted']);
});
