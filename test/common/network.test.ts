import { expect, test } from 'vitest';
import { parseNetwork } from '../../common/network.ts';

test.each([
  ['10.20.0.0/16', '10.20.255.1', true],
  ['10.20.0.0/16', '10.21.0.1', false],
  ['10.20.3.7/32', '10.20.3.7', true],
  ['10.20.3.7/32', '10.20.3.8', false],
  ['0.0.0.0/0', '192.0.2.1', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['fd00:20::/64', 'fd00:20::7', true],
  ['fd00:20::/64', 'fd00:21::7', false],
  ['fd00:20::/64', '10.20.0.1', false],
  ['10.20.0.0/16', 'node-a', false],
])('%s and %s: %s', (network, host, contained) => {
  expect(parseNetwork(network).contains(host)).toBe(contained);
});

test.each(['', '10.20.0.0', '10.20.0.0/33', '10.20.0/16', 'fd00::/129', 'eth1', '10.20.0.0/16 '])(
  '%j is no network',
  (text) => {
    expect(() => parseNetwork(text)).toThrow(`${JSON.stringify(text)} is not a network`);
  },
);
