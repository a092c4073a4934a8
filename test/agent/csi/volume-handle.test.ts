import { expect, test } from 'vitest';
import { mountNameOf, parseHandle } from '../../../agent/csi/volume-handle.ts';

test.each([
  ['pv-1', { kind: 'live', volume: 'pv-1' }],
  ['pv-1@daily-3', { kind: 'snapshot', volume: 'pv-1', snapshot: 'daily-3' }],
  ['pv-1@latest', { kind: 'latest', volume: 'pv-1' }],
  ['', undefined],
  ['@latest', undefined],
  ['pv-1@', undefined],
  ['pv-1@a@b', undefined],
  ['../etc', undefined],
  ['pv/1', undefined],
  ['pv-1@../x', undefined],
])('%j', (text, handle) => {
  expect(parseHandle(text)).toEqual(handle);
});

test('the names of mounts tell handles and paths apart, and are names for the agent', () => {
  const names = [
    mountNameOf('pv-1', '/a'),
    mountNameOf('pv-1', '/b'),
    mountNameOf('pv-1@s', '/a'),
    mountNameOf('pv-1@s/', 'a'),
  ];
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^csi-[0-9a-f]{24}$/);
});
