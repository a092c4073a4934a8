import { isIPv4, isIPv6 } from 'node:net';
import { UnderstudyError } from './errors.ts';

/** A host (a name, an IPv4 or an IPv6 address, the latter without brackets) and a TCP port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const pattern = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)):([0-9]{1,5})$/;

/**
 * The parts of "host:port", e.g. "10.0.0.7:7072" or "[::1]:7072". Port 0 asks the operating system to choose one.
 * @throws UnderstudyError Invalid
 */
export function parseAddress(text: string): Address {
  const [, inBrackets, name, digits] = pattern.exec(text) ?? [];
  const host = inBrackets ?? name;
  const port = Number(digits);
  if (host === undefined || (inBrackets !== undefined && !isIPv6(inBrackets)) || looksLikeBrokenIPv4(host)) {
    throw notAnAddress(text, 'expected host:port, e.g. 10.0.0.7:7072 or [::1]:7072');
  }
  if (port > 65535) throw notAnAddress(text, 'its port is above 65535');
  return { host, port };
}

export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only this machine can reach it. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** Whether it stands for every address of the machine, so that nobody can connect to it. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || (isIPv6(host) && /^[0:]+$/.test(host));
}

function notAnAddress(text: string, why: string): UnderstudyError {
  return new UnderstudyError('Invalid', `${JSON.stringify(text)} is not an address: ${why}`);
}

/** All digits and dots, as in 10.0.0 or 10.0.0.300: no such host name exists. */
function looksLikeBrokenIPv4(host: string): boolean {
  return /^[0-9.]+$/.test(host) && !isIPv4(host);
}
