import { type ErrorCode, UnderstudyError } from '../../common/errors.ts';

/** What the API server answered instead of what was asked for, as one of our errors. */
export function kubeError(status: number, reason: string, message: string, cause?: unknown): UnderstudyError {
  return new UnderstudyError(codeOf(status, reason), message, {
    labels: { status, reason },
    ...(cause === undefined ? {} : { cause }),
  });
}

function codeOf(status: number, reason: string): ErrorCode {
  switch (status) {
    case 400:
    case 422:
      return 'Invalid';
    case 404:
      return 'NotFound';
    case 409:
      return reason === 'AlreadyExists' ? 'AlreadyExists' : 'Conflict';
    case 401:
    case 403:
    case 405:
      return 'Invalid';
    case 504:
      return 'Timeout';
    default:
      return 'Unavailable';
  }
}

/** The watch or the list is too old to be continued; everything has to be listed again. */
export function isGone(error: unknown): boolean {
  return error instanceof UnderstudyError && error.labels.status === 410;
}

export function isConflict(error: unknown): boolean {
  return error instanceof UnderstudyError && error.code === 'Conflict';
}

export function isNotFound(error: unknown): boolean {
  return error instanceof UnderstudyError && error.code === 'NotFound';
}
