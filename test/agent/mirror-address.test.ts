import { expect, test } from 'vitest';
import { mirrorAddress } from '../../agent/mirror-address.ts';
import { parseNetwork } from '../../common/network.ts';

const listen = '0.0.0.0:7072';
const inNetwork = { listen, advertised: parseNetwork('10.20.0.0/16'), resyncBytesPerSecond: undefined };
const eth0 = [{ address: '10.0.0.7' }, { address: 'fe80::1' }];

test('what is advertised is taken as it is', () => {
  expect(mirrorAddress({ ...inNetwork, advertised: '10.0.0.7:9999' }, { eth0 })).toBe('10.0.0.7:9999');
});

test('of the addresses in the network, the first one', () => {
  const storage = [{ address: '10.20.0.7' }, { address: '10.20.0.100' }];
  expect(mirrorAddress(inNetwork, { eth0, storage })).toBe('10.20.0.7:7072');
});

test('without one, it says what there is', () => {
  expect(() => mirrorAddress(inNetwork, { eth0 })).toThrow(
    'mirror.network: this node has no address in 10.20.0.0/16, only 10.0.0.7 (eth0), fe80::1 (eth0); give one',
  );
  expect(() => mirrorAddress(inNetwork, {})).toThrow('only none at all');
});
