import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { errorMessage, UnderstudyError } from './errors.ts';

/** A range of IP addresses. */
export interface Network {
  /** As it was written, e.g. "10.20.0.0/16". */
  readonly text: string;
  /** Whether an IP address, not a name, is in it. */
  contains(host: string): boolean;
}

/**
 * The network of a CIDR such as "10.20.0.0/16" or "fd00:20::/64".
 * @throws UnderstudyError Invalid
 */
export function parseNetwork(text: string): Network {
  const [, base = '', digits = ''] = /^([0-9a-fA-F:.]+)\/([0-9]{1,3})$/.exec(text) ?? [];
  const version = isIP(base);
  if (version === 0 || Number(digits) > (version === 4 ? 32 : 128)) {
    throw new UnderstudyError(
      'Invalid',
      `${JSON.stringify(text)} is not a network: expected an address and the length of its prefix, e.g. 10.20.0.0/16 or fd00:20::/64`,
    );
  }
  const addresses = new BlockList();
  addresses.addSubnet(base, Number(digits), familyOf(version));
  return { text, contains: (host) => isIP(host) === version && addresses.check(host, familyOf(version)) };
}

/** For configuration files; parsed into a Network. */
export const networkSchema = z.string().transform((text, context): Network => {
  try {
    return parseNetwork(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: errorMessage(error) });
    return z.NEVER;
  }
});

function familyOf(version: number): 'ipv4' | 'ipv6' {
  return version === 4 ? 'ipv4' : 'ipv6';
}
