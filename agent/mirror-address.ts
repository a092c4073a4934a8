import type { NetworkInterfaceInfo } from 'node:os';
import { formatAddress, parseAddress } from '../common/address.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { Network } from '../common/network.ts';
import type { AgentConfig } from './config.ts';

/** As `os.networkInterfaces` answers: by interface, its primary address before its others. */
type Interfaces = Readonly<Record<string, readonly Pick<NetworkInterfaceInfo, 'address'>[] | undefined>>;

/**
 * host:port at which other nodes reach this one for mirror links: as the configuration says, or with this node's first
 * address in the network that it names. Pure.
 * @throws UnderstudyError Invalid
 */
export function mirrorAddress({ advertised, listen }: AgentConfig['mirror'], interfaces: Interfaces): string {
  if (typeof advertised === 'string') return advertised;
  return formatAddress({ host: addressIn(advertised, interfaces), port: parseAddress(listen).port });
}

function addressIn(network: Network, interfaces: Interfaces): string {
  const here = Object.entries(interfaces).flatMap(([name, addresses = []]) =>
    addresses.map(({ address }) => ({ name, address })),
  );
  const found = here.find(({ address }) => network.contains(address));
  if (found !== undefined) return found.address;
  const list = here.map(({ name, address }) => `${address} (${name})`).join(', ');
  throw new UnderstudyError(
    'Invalid',
    `mirror.network: this node has no address in ${network.text}, only ${list || 'none at all'}; ` +
      'give one of its interfaces such an address, or name the network that it is in',
  );
}
