import { command, commandFlag } from './constants.ts';
import { type Errno, errno } from './errno.ts';
import type { RequestHeader } from './request-parser.ts';

/** What a connection may ask for. */
export interface Terms {
  /** Bytes. */
  readonly size: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly structuredReplies: boolean;
  /** Metadata contexts selected. */
  readonly contexts: number;
  readonly maxPayloadBytes: number;
}

/**
 * Judges a request completely, so that the code which executes it needs no checks: 0 if it may be executed, else the
 * error that the protocol document asks for.
 */
export function checkRequest(terms: Terms, request: RequestHeader): Errno {
  const allowed = allowedFlags(terms, request.type);
  // FUA is accepted on every command, as the document demands; it means something on those that write.
  if (allowed === undefined || (request.flags & ~(allowed | commandFlag.fua)) !== 0) return errno.einval;
  switch (request.type) {
    case command.disconnect:
      return errno.none;
    case command.flush:
      return request.offset === 0 && request.length === 0 ? errno.none : errno.einval;
    case command.read:
      return request.length > terms.maxPayloadBytes ? errno.einval : checkRange(terms, request, errno.einval);
    case command.write:
      if (terms.readOnly) return errno.eperm;
      return request.length > terms.maxPayloadBytes ? errno.einval : checkRange(terms, request, errno.enospc);
    case command.writeZeroes:
      return terms.readOnly ? errno.eperm : checkWriteZeroes(terms, request);
    case command.trim:
      return terms.readOnly ? errno.eperm : checkRange(terms, request, errno.einval);
    case command.blockStatus:
      return terms.contexts === 0 ? errno.einval : checkRange(terms, request, errno.einval);
    default:
      return checkRange(terms, request, errno.einval);
  }
}

/**
 * Whether zeroing is faster than writing depends on what lies below (copy-on-write preserves first, a mirror sends), so
 * a request that is to fail rather than be slow always fails, quickly.
 */
function checkWriteZeroes(terms: Terms, request: RequestHeader): Errno {
  const error = checkRange(terms, request, errno.enospc);
  if (error !== errno.none) return error;
  return request.flags & commandFlag.fastZero ? errno.enotsup : errno.none;
}

/** Flags besides FUA, or undefined for an unknown command. */
function allowedFlags(terms: Terms, type: number): number | undefined {
  switch (type) {
    case command.read:
      return terms.structuredReplies ? commandFlag.dontFragment : 0;
    case command.write:
    case command.disconnect:
    case command.flush:
    case command.trim:
    case command.cache:
      return 0;
    case command.writeZeroes:
      return commandFlag.noHole | commandFlag.fastZero;
    case command.blockStatus:
      return commandFlag.requestOne;
    default:
      return undefined;
  }
}

function checkRange(terms: Terms, request: RequestHeader, pastTheEnd: Errno): Errno {
  const { offset, length } = request;
  if (offset > terms.size || length > terms.size - offset) return pastTheEnd;
  return length > 0 && offset % terms.blockSize === 0 && length % terms.blockSize === 0 ? errno.none : errno.einval;
}
