import { describe, expect, test } from 'vitest';
import { decideSwap, isSwapped, type RecordHolder } from '../../../agent/arbiter/record-swap.ts';

const question = { volume: 'pv-u', uid: 'u', epoch: 3, mirror: 'standby' };

function holder(record: object | undefined = {}, uid = 'u'): RecordHolder {
  const usual = { revision: 7, epoch: 3, since: 3, node: 'node-a', copy: 'origin', copies: [], divergent: [] };
  return {
    metadata: { uid, resourceVersion: '41' },
    status: record === undefined ? {} : { arbiter: { ...usual, ...record } },
  };
}

describe('a question about a standby', () => {
  test('of the primary in its epoch is a swap under the version that was read', () => {
    const copies = [
      { name: 'other', state: 'InSync' as const, epoch: 3 },
      { name: 'standby', state: 'InSync' as const, epoch: 2 },
    ];
    expect(decideSwap(holder({ copies }), 'node-a', question, 'Outdated')).toEqual({
      do: 'swap',
      patch: {
        metadata: { resourceVersion: '41' },
        status: { arbiter: { revision: 8, copies: [copies[0], { name: 'standby', state: 'Outdated', epoch: 3 }] } },
      },
    });
  });

  test('whose answer stands there already is swapped nevertheless: one on its way must fail', () => {
    const copies = [{ name: 'standby', state: 'Outdated' as const, epoch: 3 }];
    const decision = decideSwap(holder({ copies }), 'node-a', question, 'Outdated');
    expect(decision).toMatchObject({ do: 'swap', patch: { status: { arbiter: { revision: 8, copies } } } });
  });

  test.each([
    ['another node is the primary of this epoch', { node: 'node-b' }, 'u', 'refused'],
    ['another node is the primary of a newer epoch', { node: 'node-b', epoch: 4 }, 'u', 'refused'],
    ['this node is the primary of a newer epoch, and about to be told', { epoch: 4 }, 'u', 'unreachable'],
    ['the record was restored from before this epoch', { epoch: 2, node: 'node-b' }, 'u', 'unreachable'],
    ['the object is of another volume', {}, 'v', 'unreachable'],
  ])('when %s is answered without a swap', (_, record, uid, answer) => {
    expect(decideSwap(holder(record, uid), 'node-a', question, 'InSync')).toMatchObject({ do: 'answer', answer });
  });

  test('waits while there is no record', () => {
    const bare = { metadata: { uid: 'u', resourceVersion: '1' } };
    expect(decideSwap(bare, 'node-a', question, 'InSync')).toMatchObject({ answer: 'unreachable' });
  });
});

test('an answer that lacks what was swapped in is none', () => {
  const decision = decideSwap(holder(), 'node-a', question, 'InSync');
  if (decision.do !== 'swap') throw new Error('expected a swap');
  const copies = [{ name: 'standby', state: 'InSync' as const, epoch: 3 }];
  expect(isSwapped(holder({ revision: 8, copies }), decision.patch)).toBe(true);
  expect(isSwapped(holder({ revision: 8 }), decision.patch)).toBe(false);
  expect(isSwapped(holder({ revision: 9, copies }), decision.patch)).toBe(false);
});
