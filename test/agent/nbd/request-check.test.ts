import { describe, expect, test } from 'vitest';
import { command, commandFlag } from '../../../agent/nbd/constants.ts';
import { errno } from '../../../agent/nbd/errno.ts';
import { checkRequest, type Terms } from '../../../agent/nbd/request-check.ts';

const size = 1024 * 1024;
const terms: Terms = {
  size,
  blockSize: 512,
  readOnly: false,
  structuredReplies: true,
  contexts: 1,
  maxPayloadBytes: 65_536,
};

function check(
  type: number,
  fields: { offset?: number; length?: number; flags?: number },
  changed: Partial<Terms> = {},
) {
  const { offset = 0, length = 0, flags = 0 } = fields;
  return checkRequest({ ...terms, ...changed }, { type, offset, length, flags, cookieHigh: 0, cookieLow: 0 });
}

const ranged = [command.read, command.write, command.trim, command.cache, command.writeZeroes, command.blockStatus];
const pastTheEnd = (type: number) =>
  type === command.write || type === command.writeZeroes ? errno.enospc : errno.einval;

describe('checkRequest', () => {
  test.each(ranged)('command %i: a range within the export', (type) => {
    expect(check(type, { offset: size - 512, length: 512 })).toBe(errno.none);
    expect(check(type, { offset: 0, length: 65_536 })).toBe(errno.none);
  });

  test.each(ranged)('command %i: past the end', (type) => {
    expect(check(type, { offset: size, length: 512 })).toBe(pastTheEnd(type));
    expect(check(type, { offset: size - 512, length: 1024 })).toBe(pastTheEnd(type));
    expect(check(type, { offset: 2 ** 64, length: 512 })).toBe(pastTheEnd(type));
  });

  test.each(ranged)('command %i: misaligned or empty', (type) => {
    expect(check(type, { offset: 1, length: 512 })).toBe(errno.einval);
    expect(check(type, { offset: 0, length: 511 })).toBe(errno.einval);
    expect(check(type, { offset: 512, length: 512 }, { blockSize: 4096 })).toBe(errno.einval);
    expect(check(type, { offset: 0, length: 0 })).toBe(errno.einval);
  });

  test('the maximum payload limits what has a payload, and nothing else', () => {
    const long = { length: 65_536 + 512 };
    expect(check(command.read, long)).toBe(errno.einval);
    expect(check(command.write, long)).toBe(errno.einval);
    for (const type of [command.trim, command.writeZeroes, command.cache, command.blockStatus]) {
      expect(check(type, long)).toBe(errno.none);
    }
  });

  test('a read-only export refuses what writes', () => {
    const readOnly = { readOnly: true };
    for (const type of [command.write, command.trim, command.writeZeroes]) {
      expect(check(type, { length: 512 }, readOnly)).toBe(errno.eperm);
    }
    for (const type of [command.read, command.cache, command.blockStatus]) {
      expect(check(type, { length: 512 }, readOnly)).toBe(errno.none);
    }
    expect(check(command.flush, {}, readOnly)).toBe(errno.none);
  });

  test('FUA is accepted on every command', () => {
    for (const type of ranged) expect(check(type, { length: 512, flags: commandFlag.fua })).toBe(errno.none);
    expect(check(command.flush, { flags: commandFlag.fua })).toBe(errno.none);
  });

  test.each([
    [command.read, commandFlag.noHole],
    [command.write, commandFlag.dontFragment],
    [command.trim, commandFlag.noHole],
    [command.cache, commandFlag.requestOne],
    [command.writeZeroes, commandFlag.requestOne],
    [command.blockStatus, commandFlag.fastZero],
    [command.read, 1 << 15],
  ])('command %i refuses flag %i', (type, flags) => {
    expect(check(type, { length: 512, flags })).toBe(errno.einval);
  });

  test('DF is known only with structured replies', () => {
    const request = { length: 512, flags: commandFlag.dontFragment };
    expect(check(command.read, request)).toBe(errno.none);
    expect(check(command.read, request, { structuredReplies: false })).toBe(errno.einval);
  });

  test('a fast zero fails quickly, unless the request is wrong anyway', () => {
    expect(check(command.writeZeroes, { length: 512, flags: commandFlag.fastZero })).toBe(errno.enotsup);
    expect(check(command.writeZeroes, { length: 512, flags: commandFlag.noHole })).toBe(errno.none);
    expect(check(command.writeZeroes, { offset: size, length: 512, flags: commandFlag.fastZero })).toBe(errno.enospc);
  });

  test('block status needs a selected context', () => {
    expect(check(command.blockStatus, { length: 512 }, { contexts: 0 })).toBe(errno.einval);
  });

  test('flush has no range', () => {
    expect(check(command.flush, {})).toBe(errno.none);
    expect(check(command.flush, { offset: 512 })).toBe(errno.einval);
    expect(check(command.flush, { length: 512 })).toBe(errno.einval);
  });

  test.each([8, 9, 0xffff])('unknown command %i', (type) => {
    expect(check(type, { length: 512 })).toBe(errno.einval);
  });
});
