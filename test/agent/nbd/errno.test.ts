import { describe, expect, test } from 'vitest';
import { optionReply } from '../../../agent/nbd/constants.ts';
import { errno, errnoOf, optionErrorOf } from '../../../agent/nbd/errno.ts';
import { type ErrorCode, UnderstudyError } from '../../../common/errors.ts';

const systemError = (code: string) => Object.assign(new Error(code), { code });

describe('errnoOf', () => {
  test.each<[ErrorCode, number]>([
    ['NoSpace', errno.enospc],
    ['ReadOnly', errno.eperm],
    ['Invalid', errno.einval],
    ['Closed', errno.eshutdown],
    ['Fenced', errno.eio],
    ['Io', errno.eio],
    ['Corrupt', errno.eio],
    ['Timeout', errno.eio],
    ['Internal', errno.eio],
  ])('%s', (code, expected) => {
    expect(errnoOf(new UnderstudyError(code, 'x'))).toBe(expected);
  });

  test('errors of the operating system and of ours', () => {
    expect(errnoOf(systemError('ENOSPC'))).toBe(errno.enospc);
    expect(errnoOf(systemError('EIO'))).toBe(errno.eio);
    expect(errnoOf(new TypeError('x'))).toBe(errno.eio);
    expect(errnoOf('x')).toBe(errno.eio);
  });
});

test.each<[ErrorCode, number]>([
  ['NotFound', optionReply.errorUnknown],
  ['Closed', optionReply.errorShutdown],
  ['Invalid', optionReply.errorInvalid],
  ['NotReady', optionReply.errorPolicy],
  ['Fenced', optionReply.errorPolicy],
])('an export that fails to open with %s', (code, expected) => {
  expect(optionErrorOf(new UnderstudyError(code, 'x'))).toBe(expected);
});
