import { type ErrorCode, errorCode } from '../../common/errors.ts';
import { optionReply } from './constants.ts';

/** The error numbers that the protocol allows in replies; 0 is success. */
export const errno = {
  none: 0,
  eperm: 1,
  eio: 5,
  einval: 22,
  enospc: 28,
  eoverflow: 75,
  enotsup: 95,
  eshutdown: 108,
} as const;

export type Errno = (typeof errno)[keyof typeof errno];

/**
 * The one place where our errors become errors of NBD replies. Everything that is neither the client's fault nor a
 * condition that it can act on is an I/O error: clients treat it as a failed disk, which is what a fenced volume is.
 */
const errnoOfCode: Readonly<Record<ErrorCode, Errno>> = {
  Invalid: errno.einval,
  NoSpace: errno.enospc,
  ReadOnly: errno.eperm,
  Closed: errno.eshutdown,
  NotFound: errno.eio,
  AlreadyExists: errno.eio,
  Conflict: errno.eio,
  NotReady: errno.eio,
  InUse: errno.eio,
  Fenced: errno.eio,
  Io: errno.eio,
  Corrupt: errno.eio,
  Protocol: errno.eio,
  Timeout: errno.eio,
  Unavailable: errno.eio,
  Internal: errno.eio,
};

export function errnoOf(error: unknown): Errno {
  return errnoOfCode[errorCode(error)];
}

/** The reply to an option that named an export which could not be opened. */
export function optionErrorOf(error: unknown): number {
  switch (errorCode(error)) {
    case 'NotFound':
      return optionReply.errorUnknown;
    case 'Closed':
      return optionReply.errorShutdown;
    case 'Invalid':
      return optionReply.errorInvalid;
    default:
      return optionReply.errorPolicy;
  }
}
