import { expect, test } from 'vitest';
import { attachmentOf, encodeIdentifier } from '../../../agent/attach/nbd-identifier.ts';

test('names the attachment, the volume and its epoch, and each of them makes a difference', () => {
  const binding = { uid: 'uid-1', epoch: 3 };
  expect(encodeIdentifier('tag', 'pv-1-a', binding)).toBe('understudy/tag/pv-1-a/uid-1/3');
  const others = [
    encodeIdentifier('tag', 'pv-1-a', { uid: 'uid-1', epoch: 4 }),
    encodeIdentifier('tag', 'pv-1-a', { uid: 'uid-2', epoch: 3 }),
    encodeIdentifier('tag', 'pv-1-a', { uid: undefined, epoch: 3 }),
    encodeIdentifier('tag', 'pv-1-b', binding),
    encodeIdentifier('other', 'pv-1-a', binding),
    encodeIdentifier('tag', 'pv-1-a', undefined),
    encodeIdentifier('tag', 'pv-1-a', { uid: 'uid-1/3', epoch: 3 }),
  ];
  expect(new Set([...others, encodeIdentifier('tag', 'pv-1-a', binding)]).size).toBe(others.length + 1);
});

test('only our own are ours', () => {
  expect(attachmentOf(encodeIdentifier('tag', 'pv-1-a', { uid: 'x/y', epoch: 1 }), 'tag')).toBe('pv-1-a');
  expect(attachmentOf(encodeIdentifier('tag', 'pv-1-a', undefined), 'tag')).toBe('pv-1-a');
  for (const other of ['understudy/other/pv-1-a', 'qemu/tag/pv-1-a', 'understudy/tag', 'understudy/tag/', '']) {
    expect(attachmentOf(other, 'tag'), other).toBeUndefined();
  }
});
