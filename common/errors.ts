/**
 * What went wrong, as a class of errors that callers can act on. Each becomes an NBD errno, an HTTP status or a
 * condition's reason in one place of its own layer.
 */
export type ErrorCode =
  /** The request itself is wrong; repeating it cannot help. */
  | 'Invalid'
  | 'NotFound'
  /** It is there already, with another content. */
  | 'AlreadyExists'
  /** It contradicts the state things are in, e.g. an older epoch or a role that must not change. */
  | 'Conflict'
  /** Right in itself, but not now: a mirror that is not in sync, a volume in recovery. Try again later. */
  | 'NotReady'
  /** Someone else uses it; the message names whom. */
  | 'InUse'
  /** Space, slots or another bounded resource is exhausted. */
  | 'NoSpace'
  /** A newer epoch exists; this copy must not acknowledge anything any more. */
  | 'Fenced'
  /** A disk failed a read, a write or a sync. */
  | 'Io'
  /** What a disk returned does not match its checksum. */
  | 'Corrupt'
  /** A peer broke the protocol. */
  | 'Protocol'
  | 'Timeout'
  | 'Unavailable'
  | 'ReadOnly'
  | 'Closed'
  /** A defect of ours. */
  | 'Internal';

/** Plain data that an error carries for logs and API answers: which volume, which snapshot, which limit. */
export type ErrorLabels = Readonly<Record<string, string | number | boolean>>;

/** The root of every error that Understudy throws on purpose. The message says what happened to what, and what to do. */
export class UnderstudyError extends Error {
  override readonly name = 'UnderstudyError';
  readonly code: ErrorCode;
  readonly labels: ErrorLabels;

  constructor(code: ErrorCode, message: string, options: { labels?: ErrorLabels; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.labels = options.labels ?? {};
  }
}

/** The code of any thrown value; what is not ours counts as a defect of ours, except errors of the operating system. */
export function errorCode(error: unknown): ErrorCode {
  if (error instanceof UnderstudyError) return error.code;
  switch (systemErrorCode(error)) {
    case undefined:
      return 'Internal';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'NoSpace';
    case 'ENOENT':
      return 'NotFound';
    case 'EROFS':
      return 'ReadOnly';
    default:
      return 'Io';
  }
}

/** `ENOSPC`, `EIO`, … of an error that the operating system raised, else undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}

/** The message of any thrown value, with the messages of its causes behind it. */
export function errorMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${errorMessage(error.cause)}`;
}
